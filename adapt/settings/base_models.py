"""Look up the settings that a base model recommends: sizes, rates, augmentation.

Two sources: rules that hold for every model, and `configs/base_models/NAME.yaml` for the models of
open_clip that want something else.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from adapt.registry import METHODS
from adapt.settings import text
from adapt.settings.architectures import QUICKGELU, image_size, train_size
from adapt.settings.config import TrainConfig
from adapt.settings.model_config import Architecture, is_file
from runtime.errors import ConfigError
from runtime.lookup import imported
from runtime.suggest import did_you_mean

FOLDER = "base_models"


def recommended(
    architecture: str, method: str, cls: type[TrainConfig], folder: Path
) -> dict[str, Any]:
    """Return the settings that a base model recommends for a method; see also `interpolation`.

    Args:
        architecture: open_clip's name, a model of the demo, or the path of a model configuration
            (.json); an unknown one recommends nothing.
        method: Name of the method.
        cls: The method's configuration class.
        folder: Folder of the settings files.

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
    files = {path.stem: path for path in sorted((folder / FOLDER).glob("*.yaml"))}
    if name in files:
        values |= _read(files[name], method, cls)
    return values


def _read(path: Path, method: str, cls: type[TrainConfig]) -> dict[str, Any]:
    values = text.read(path)
    by_method = text.sections(values, "methods", path)
    configs = {method: cls}
    for name in by_method:
        if name in METHODS:
            configs.setdefault(name, imported(METHODS[name].config))
        if name not in configs:
            raise ConfigError(
                f"'{path}' recommends settings for the unknown method '{name[:80]}'"
                f"{did_you_mean(name, {*METHODS, method})}; correct the file"
            )
    # The parts for other methods too: whoever writes the file runs one method at a time.
    parts = [(values, TrainConfig), *((part, configs[name]) for name, part in by_method.items())]
    for part, config in parts:
        known = {field.name for field in fields(config)}
        if unknown := sorted(str(key) for key in part if key not in known):
            raise ConfigError(
                f"'{path}' recommends the unknown setting '{unknown[0][:80]}'"
                f"{did_you_mean(unknown[0], known)}; correct the file"
            )
        for key in ("model", "pretrained"):
            if key in part:
                raise ConfigError(
                    f"'{path}' cannot recommend '{key}', by which it was found; remove that line"
                )
    return {**values, **by_method.get(method, {})}
