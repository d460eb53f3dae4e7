"""Read the configuration files of base models, and check their names, without torch."""

from __future__ import annotations

import functools
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from adapt.settings.model_config import Architecture, is_file
from adapt.settings.towers import ResnetTower
from runtime.errors import BaseModelError
from runtime.models import Interpolation
from runtime.storage import disk
from runtime.storage.files import expanded
from runtime.suggest import did_you_mean

QUICKGELU = "-quickgelu"
"""Suffix of architectures whose activation is x * sigmoid(1.702 x), as OpenAI trained them."""
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")
"""Endings of weights files; no tag of open_clip's has a dot."""
BASE_ADVICE = "--set model={} --set pretrained=PATH"
"""Options that name other weights, for messages; `{}` is the architecture."""
_CROP = 8 / 7
"""Training size over input size: 256 pixels for crops of 224, as CLIP is usually fine-tuned."""


def train_size(image_size: int) -> int:
    """Return the pixels on a side that images have before crops of `image_size` are taken."""
    return round(image_size * _CROP)


def image_size(architecture: str) -> int | None:
    """Return the pixels on a side of a model's input, from its configuration file, or None.

    Args:
        architecture: Name of the architecture without `-quickgelu`, or path of a model
            configuration.

    Raises:
        BaseModelError: The model configuration cannot be used.
    """
    if is_file(architecture):
        return Architecture.read(Path(architecture)).vision.image_size
    vision = _vision(architecture)
    if vision is None:
        return None
    size = vision.get("image_size", 224)
    return int(size[0] if isinstance(size, list) else size)


def is_resnet(architecture: str) -> bool:
    """Return whether the image encoder of a model is CLIP's ResNet.

    Args:
        architecture: Architecture, as for `image_size`.

    Raises:
        BaseModelError: The model configuration cannot be used.
    """
    if is_file(architecture):
        return isinstance(Architecture.read(Path(architecture)).vision, ResnetTower)
    return isinstance((_vision(architecture) or {}).get("layers"), list)


def _vision(architecture: str) -> dict[str, Any] | None:
    """Return the image encoder's part of a model's configuration file, or None."""
    path = architectures().get(architecture)
    if path is None:
        return None
    vision: dict[str, Any] = json.loads(path.read_text())["vision_cfg"]
    return vision


@functools.cache
def architectures() -> Mapping[str, Path]:
    """Return the configuration files of all models by name, the demo's first."""
    here = Path(__file__).resolve().parents[1] / "demo" / "architectures"
    found = importlib.util.find_spec("open_clip")  # its import takes seconds, its files do not
    theirs = Path(str(found.origin)).parent / "model_configs" if found else here
    all_theirs = {path.stem: path for path in sorted(theirs.glob("*.json"))}
    own = {path.stem: path for path in sorted(here.glob("*.json"))}
    return own | {name: path for name, path in all_theirs.items() if name not in own}


def check_architecture(name: str) -> None:
    """Refuse a model that neither open_clip nor the demo has; any may end in `-quickgelu`.

    Args:
        name: open_clip's name, a model of the demo, or the path of a model configuration (.json).

    Raises:
        BaseModelError: The architecture is unknown, or the model configuration cannot be used.
    """
    if is_file(name):
        Architecture.read(Path(name))
        return
    known = architectures()
    if name in known or name.removesuffix(QUICKGELU) in known:
        return
    if importlib.util.find_spec("open_clip") is None:
        import open_clip  # noqa: F401  # it may know the model, so the error is that it is missing
    some = [path.stem for path in known.values() if path.parent.name == "architectures"]
    some += ["ViT-B-16-quickgelu", "RN50-quickgelu"]
    raise BaseModelError(
        f"unknown architecture '{name[:80]}'{did_you_mean(name[:80], known)}; take one of "
        f"open_clip's {len(known) - len(some) + 2}, or of the demo: {', '.join(some)}, ..., or "
        "FILE.json, a model configuration"
    )


def check_model(architecture: str, pretrained: str, advice: str) -> None:
    """Refuse an unknown architecture or unknown weights.

    Args:
        architecture: Architecture, as for `check_architecture`.
        pretrained: Weights, as a tag, `demo`, or the path of a file.
        advice: Options that name another file, for messages; `{}` is the architecture.

    Raises:
        BaseModelError: The architecture or the weights file is unknown.
    """
    check_architecture(architecture)
    advice = advice.replace("{}", architecture)
    check_weights(pretrained, advice)
    if is_file(architecture):
        check_own_weights(architecture, pretrained, advice)


def check_weights(pretrained: str, advice: str) -> None:
    """Refuse a missing weights file; tags are looked up later, which needs torch.

    Args:
        pretrained: Weights, as a tag, `demo`, or the path of a file.
        advice: Options that name another file, for the message.

    Raises:
        BaseModelError: The weights file does not exist.
    """
    path = expanded(pretrained)
    if path.suffix.lower() in SUFFIXES and not disk.is_file(path):
        raise BaseModelError(f"weights file '{path}' not found; pass an existing one with {advice}")


def check_own_weights(architecture: str, pretrained: str, advice: str) -> None:
    """Refuse a pretrained tag where a model configuration of the user's own needs a weights file.

    Args:
        architecture: Name of the model configuration, for messages.
        pretrained: Weights, as for `check_weights`.
        advice: Options that name another file, for the message.

    Raises:
        BaseModelError: `pretrained` is not a weights file.
    """
    path = expanded(pretrained)
    if not disk.is_file(path) and path.suffix.lower() not in SUFFIXES:
        raise BaseModelError(
            f"'{pretrained[:80]}' is not a weights file, and no pretrained tag has the "
            f"architecture of '{architecture}'; pass a weights file ({', '.join(SUFFIXES)}) "
            f"with {advice}"
        )


def interpolation(architecture: str, pretrained: str) -> Interpolation:
    """Return the interpolation of a model's pre-training, which is nearly always bicubic.

    Args:
        architecture: Name in open_clip, or a model of the demo.
        pretrained: Weights of the model; a tag of open_clip's other than `openai` imports torch.
    """
    if pretrained in ("openai", "demo") or Path(pretrained).suffix.lower() in SUFFIXES:
        return "bicubic"
    import open_clip  # only here: it imports torch

    tag = open_clip.get_pretrained_cfg(architecture, pretrained)
    found: Interpolation = tag.get("interpolation", "bicubic")
    return found if found in get_args(Interpolation) else "bicubic"
