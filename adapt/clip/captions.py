"""Make captions of classes that fit the text encoder, each name with its article."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from adapt.settings.config import TrainConfig
from runtime.errors import DataError

if TYPE_CHECKING:
    from adapt.clip.model import Clip

C = TypeVar("C", bound=TrainConfig)

_log = logging.getLogger(__name__)
SHORTER = ("a photo of {a} {}", "{a} {}", "{}")
"""Templates to fall back to where a longer one does not fit."""


def class_prompts(classes: Sequence[str], template: str, domain: str = "") -> tuple[str, ...]:
    """Return one caption per class, in the order of the classes, so prompts cannot leave labels.

    Names are lower-cased and underscores become spaces, as in CMKD's code. That code sorts prompts
    and folders by different rules, which gives most DomainNet classes another class's prompt.

    Args:
        classes: Class names in label order.
        template: Caption with `{}` for the name, and maybe `{a}` for its article and `{domain}`.
        domain: Name of the target domain, written as class names are.

    Raises:
        DataError: Two classes get the same caption.
    """
    template = template.replace("{domain}", _words(domain))
    prompts = tuple(
        template.replace("{a}", article(_words(name))).replace("{}", _words(name))
        for name in classes
    )
    first: dict[str, str] = {}
    for name, prompt in zip(classes, prompts, strict=True):
        if prompt in first:
            raise DataError(
                f"classes '{first[prompt]}' and '{name}' have the same caption '{prompt}'; "
                "rename one of them, or join their folders"
            )
        first[prompt] = name
    return prompts


def _words(name: str) -> str:
    return name.replace("_", " ").lower()


def fitting(
    clip: Clip, classes: Sequence[str], template: str, domain: str, *, words: int = 0
) -> str:
    """Return a template whose captions the text encoder can read: this one, or a shorter one.

    Args:
        clip: Model whose text encoder reads the captions.
        classes: Class names.
        template: Wanted template.
        domain: Name of the target domain.
        words: Tokens that a shorter template must have before the class name.

    Raises:
        BaseModelError: Even the shortest has no room for some class name.
    """
    from adapt.clip.prompts import leading_words

    for candidate in (template, *SHORTER):
        enough = candidate == template or leading_words(clip, candidate) >= words
        if enough and clip.fits(class_prompts(classes, candidate, domain)):
            if candidate != template:
                _log.warning(
                    "the prompt '%s' is too long for the text encoder of %s with these class "
                    "names; using '%s'",
                    *(template, clip.info.architecture, candidate),
                )
            return candidate
    clip.tokenize(class_prompts(classes, template, domain))  # says what does not fit
    return template


def fitted(clip: Clip, classes: Sequence[str], config: C, domain: str) -> C:
    """Return settings whose captions the text encoder can read, and with them fewer learned words.

    Learned words replace those before the class name, so a shorter prompt has room for fewer.

    Args:
        clip: Model whose text encoder reads the captions.
        classes: Class names.
        config: Settings; `n_ctx`, where there is one, is the number of learned words.
        domain: Name of the target domain.

    Raises:
        BaseModelError: Even the shortest prompt has no room for some class name.
    """
    from adapt.clip.prompts import leading_words

    learned = getattr(config, "n_ctx", 0)
    prompt = fitting(clip, classes, config.prompt, domain, words=min(learned, 1))
    fits = min(learned, leading_words(clip, prompt))
    if prompt == config.prompt or fits == learned:
        return replace(config, prompt=prompt)
    _log.warning(
        "the prompt '%s' has room for n_ctx=%d learned words instead of %d; shorten the class "
        "names for more",
        *(prompt, fits, learned),
    )
    changes: dict[str, Any] = {"prompt": prompt, "n_ctx": fits}
    return replace(config, **changes)


def article(name: str) -> str:
    """Return "a" or "an", as an English reader says before a name."""
    start = name.strip().lower()
    # Also numbers and single letters, as they are said: an 8-ball, an 11th, an x-ray.
    silent = re.match(r"(hour|honest|honou?r|heir|8|1[18](\D|$)|[fhlmnrsx]([-. ]|$))", start)
    spoken = re.match(r"(uni([^nm]|$)|us[abe]|eu|one\b|ur[aei]|ubi)", start)
    return "an" if silent or (start[:1] in tuple("aeiou") and not spoken) else "a"
