"""Build open_clip's models by name: configuration, network, tokenizer and pixel statistics."""

from __future__ import annotations

import copy
import functools
import warnings
from typing import Any

import open_clip
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.model import CLIP, CustomTextCLIP

from adapt.clip import demo_weights as demo
from adapt.clip import weights
from adapt.settings.architectures import QUICKGELU, check_architecture
from runtime.errors import BaseModelError


def config_of(architecture: str) -> dict[str, Any]:
    """Return the open_clip configuration of an architecture; any of them may end in -quickgelu.

    Raises:
        BaseModelError: The architecture is unknown, or its encoder gives no single feature vector.
    """
    base = architecture.removesuffix(QUICKGELU)
    if base in demo.ARCHITECTURES:
        config = demo.architecture(base)
    elif architecture in _known():
        config = open_clip.get_model_config(architecture)
    else:
        check_architecture(architecture)
        config = open_clip.get_model_config(base)
    if architecture != base:
        config["quick_gelu"] = True
    if "multimodal_cfg" in config:
        raise BaseModelError(
            f"{architecture} is a captioning model whose image encoder gives no single feature "
            "vector; take a CLIP architecture such as ViT-B-16-quickgelu"
        )
    return config


def build(config: dict[str, Any], architecture: str) -> Any:
    """Return a network without weights.

    Args:
        config: open_clip's model configuration.
        architecture: Name of the architecture, for messages.

    Raises:
        BaseModelError: A part of it cannot be built on this machine.
    """
    config = copy.deepcopy(config)
    text = config["text_cfg"]
    custom = config.pop("custom_text", False) or "hf_model_name" in text
    for tower, key in (
        ("vision_cfg", "timm_model_pretrained"),
        ("text_cfg", "hf_model_pretrained"),
    ):
        config[tower][key] = False  # every weight comes from our file
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of timm and transformers, about themselves
            model = (CustomTextCLIP if custom else CLIP)(**config)
    except Exception as error:  # a text tower of the hub that is not on this machine
        raise BaseModelError(f"cannot build {architecture}: {weights.reason(error)}") from error
    return model


def tokenizer_of(config: dict[str, Any], architecture: str) -> Any:
    """Return the tokenizer of an architecture; open_clip does not know the demo's.

    Raises:
        BaseModelError: The tokenizer is not on this machine.
    """
    known = [n for n in (architecture, architecture.removesuffix(QUICKGELU)) if n in _known()]
    if not known:
        return plain_tokenizer(config["text_cfg"]["context_length"])
    try:
        return _named_tokenizer(known[0])
    except Exception as error:  # some lie on the hub
        raise BaseModelError(
            f"cannot load the tokenizer of {architecture}: {weights.reason(error)}"
        ) from error


# Building its table takes a fifth of a second, and every load of a model wants one.
_named_tokenizer = functools.cache(open_clip.get_tokenizer)


@functools.cache
def plain_tokenizer(context_length: int) -> Any:
    """Return CLIP's own tokenizer."""
    return open_clip.SimpleTokenizer(context_length=context_length)


def statistics(architecture: str, pretrained: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and std that weights were trained with.

    A local file does not say: it gets those of the architecture's tags where all agree (all but
    those of ViT-L-14 do), else CLIP's.
    """
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    configs = [weights.tag_config(architecture, tag) for tag in tags]
    own = weights.tag_config(architecture, pretrained)
    found = {(tuple(c["mean"]), tuple(c["std"])) for c in ([own] if own else configs)}
    return found.pop() if len(found) == 1 else (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD)


def unknown_weights(architecture: str, pretrained: str, advice: str) -> BaseModelError:
    """Return the error for weights that are neither a file nor a tag of an architecture.

    Args:
        architecture: Name of the architecture.
        pretrained: The weights.
        advice: Options that name other weights; `{}` is the architecture.
    """
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    tags += ["demo"] if architecture.removesuffix(QUICKGELU) in demo.ARCHITECTURES else []
    advice = advice.replace("PATH", tags[0] if len(tags) == 1 else "PATH")
    return BaseModelError(
        f"'{pretrained}' is neither a file nor a pretrained tag of {architecture}; available: "
        f"{', '.join(tags) or 'none'}; pass {advice.replace('{}', architecture)}"
    )


def _known() -> list[str]:
    names: list[str] = open_clip.list_models()
    return names
