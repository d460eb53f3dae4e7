"""Make captions of classes that fit the text encoder, each name with its article."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from adapt.settings.config import TrainConfig
from runtime.errors import BaseModelError, DataError

if TYPE_CHECKING:
    from adapt.clip.model import Clip

C = TypeVar("C", bound=TrainConfig)

_log = logging.getLogger(__name__)
SHORTER = ("a photo of {a} {}", "{a} {}", "{}")
"""Templates to fall back to where a longer one does not fit."""
_SHOWN = 80
"""Characters of a class name that a message shows."""


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

    shorter = [short for short in SHORTER if leading_words(clip, short) >= words]
    for candidate in (template, *shorter):
        if clip.fits(class_prompts(classes, candidate, domain)):
            if candidate != template:
                _log.warning(
                    "the prompt '%s' is too long for the text encoder of %s with these class "
                    "names; using '%s'",
                    *(template, clip.info.architecture, candidate),
                )
            return candidate
    prompts = dict(zip(classes, class_prompts(classes, shorter[-1], domain), strict=True))
    longest = next(name for name in prompts if not clip.fits([prompts[name]]))
    raise BaseModelError(
        f"the class name '{longest[:_SHOWN]}' is too long for the text encoder of "
        f"{clip.info.architecture}, even with the prompt '{shorter[-1]}'; shorten the class name"
    )


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
    # Shorter names make room for the wanted prompt only if it fits at all.
    names_are_long = clip.fits(class_prompts(("x",), config.prompt, domain))
    _log.warning(
        "the prompt '%s' has room for n_ctx=%d learned words instead of %d; %s may have more",
        *(prompt, fits, learned),
        "shorter class names" if names_are_long else "another, shorter prompt",
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
