"""What a base model recommends, as timm's `pretrained_cfg` does: sizes, rates, augmentation.

Two sources: rules that hold for every model of open_clip, and `configs/base_models/NAME.yaml` for
the models that want something else.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

from adapt.settings import text
from adapt.settings.config import TrainConfig
from runtime.errors import ConfigError
from runtime.spec import Interpolation

FOLDER = "base_models"
QUICKGELU = "-quickgelu"
_CROP = 8 / 7
"""Training size over input size: 256 pixels for crops of 224, as CLIP is usually fine-tuned."""


def recommended(
    architecture: str, pretrained: str, method: str, cls: type[TrainConfig], folder: Path
) -> dict[str, Any]:
    """Return the settings that a base model recommends for a method.

    Args:
        architecture: open_clip's name, or a model of the demo; an unknown one recommends nothing.
        pretrained: Its weights, as for `adapt.clip.load`.
        method: Name of the method.
        cls: The method's configuration class.
        folder: Of the settings files.

    Raises:
        ConfigError: The model's file is damaged, or names a setting that there is not.
    """
    name = architecture.removesuffix(QUICKGELU)
    size = image_size(name)
    values: dict[str, Any] = {} if size is None else {"train_size": round(size * _CROP)}
    values["interpolation"] = _interpolation(architecture, pretrained)
    files = {path.stem: path for path in sorted((folder / FOLDER).glob("*.yaml"))}
    if name in files:
        values |= _read(files[name], method, cls)
    return values


def image_size(architecture: str) -> int | None:
    """Return the pixels on a side that a model takes, from its configuration file; None: unknown.

    Args:
        architecture: Without `-quickgelu`, which changes nothing here.
    """
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
    own = by_method.get(method, {})
    unknown = sorted((values.keys() - common) | (own.keys() - {f.name for f in fields(cls)}))
    if unknown:
        raise ConfigError(f"'{path.name}' recommends the unknown setting '{unknown[0]}'")
    return {**values, **own}


def may_recommend(method: str, cls: type[TrainConfig], folder: Path) -> frozenset[str]:
    """Return the settings that some base model decides for a method.

    A paper's settings name all of them, those for the user's own folders none.
    """
    files: Mapping[str, Path] = {p.stem: p for p in sorted((folder / FOLDER).glob("*.yaml"))}
    named = {key for path in files.values() for key in _read(path, method, cls)}
    return frozenset(named | {"train_size", "interpolation"})
