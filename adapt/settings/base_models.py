"""What a base model recommends, as timm's `pretrained_cfg` does: sizes, rates, augmentation.

Two sources: rules that hold for every model, and `configs/base_models/NAME.yaml` for the models of
open_clip that want something else.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

from adapt.architecture import Architecture, is_file
from adapt.nearest import meant
from adapt.settings import text
from adapt.settings.config import TrainConfig
from runtime.errors import ConfigError
from runtime.spec import Interpolation

FOLDER = "base_models"
QUICKGELU = "-quickgelu"
_CROP = 8 / 7
"""Training size over input size: 256 pixels for crops of 224, as CLIP is usually fine-tuned."""


def train_size(image_size: int) -> int:
    """Return the pixels on a side that images have before crops of `image_size` are taken."""
    return round(image_size * _CROP)


def recommended(
    architecture: str, pretrained: str, method: str, cls: type[TrainConfig], folder: Path
) -> dict[str, Any]:
    """Return the settings that a base model recommends for a method.

    Args:
        architecture: open_clip's name, a model of the demo, or the path of a model configuration
            (.json); an unknown one recommends nothing.
        pretrained: Its weights, as for `adapt.clip.load`.
        method: Name of the method.
        cls: The method's configuration class.
        folder: Of the settings files.

    Raises:
        ConfigError: The model's file is damaged, or names an unknown setting.
        BaseModelError: The model configuration cannot be used.
    """
    if is_file(architecture):
        own = Architecture.read(Path(architecture))
        sides = train_size(own.vision.image_size)
        return {"train_size": sides, "interpolation": own.pixels.interpolation}
    name = architecture.removesuffix(QUICKGELU)
    size = image_size(name)
    values: dict[str, Any] = {} if size is None else {"train_size": train_size(size)}
    values["interpolation"] = _interpolation(architecture, pretrained)
    files = {path.stem: path for path in sorted((folder / FOLDER).glob("*.yaml"))}
    if name in files:
        values |= _read(files[name], method, cls)
    return values


def image_size(architecture: str) -> int | None:
    """Return the pixels on a side of a model's input, from its configuration file, or None.

    Args:
        architecture: Without `-quickgelu`, which changes nothing here; or the path of a model
            configuration.

    Raises:
        BaseModelError: The model configuration cannot be used.
    """
    if is_file(architecture):
        return Architecture.read(Path(architecture)).vision.image_size
    here = Path(__file__).resolve().parents[1] / "demo" / "architectures"
    found = importlib.util.find_spec("open_clip")  # its import takes seconds, the file does not
    theirs = Path(str(found.origin)).parent / "model_configs" if found else here
    for path in (p for folder in (here, theirs) for p in folder.glob("*.json")):
        if path.stem == architecture:
            size = json.loads(path.read_text())["vision_cfg"].get("image_size", 224)
            return int(size[0] if isinstance(size, list) else size)
    return None


def _interpolation(architecture: str, pretrained: str) -> str:
    """Return how the images of a model's pre-training were resized: nearly always bicubic."""
    if pretrained in ("openai", "demo"):
        return "bicubic"
    import open_clip  # only here: it imports torch

    tag = open_clip.get_pretrained_cfg(architecture, pretrained)
    found = tag.get("interpolation", "bicubic")
    return found if found in get_args(Interpolation) else "bicubic"


def _read(path: Path, method: str, cls: type[TrainConfig]) -> dict[str, Any]:
    values = text.read(path)
    by_method = text.sections(values, "methods", path)
    common = {field.name for field in fields(TrainConfig)}
    known = {field.name for field in fields(cls)}
    own = by_method.get(method, {})
    unknown = sorted(str(key) for key in (values.keys() - common) | (own.keys() - known))
    if unknown:
        raise ConfigError(
            f"'{path}' recommends the unknown setting '{unknown[0][:80]}'"
            f"{meant(unknown[0], known)}; correct the file"
        )
    for key in ("model", "pretrained"):
        if key in values or key in own:
            raise ConfigError(
                f"'{path}' cannot recommend '{key}', by which it was found; remove that line"
            )
    return {**values, **own}
