"""Resolve settings from layers of files, models and options.

Each layer overrules those before it: dataclass default, base model, `paper.yaml`, the data set's
file, its task, presets, the command line. A setting that is `auto` in the end waits for the data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from adapt.settings import architectures, base_models, text
from adapt.settings.config import AUTO, AutoRequest, TrainConfig, may_be_auto
from adapt.settings.files import Layer, check_keys, file_layers
from adapt.settings.names import check_names
from runtime.errors import ConfigError
from runtime.storage import disk
from runtime.storage.fields import build

DEFAULT, DATA, COMMAND = "default", "data", "command line"
"""Names of layers that are not files."""
C = TypeVar("C", bound=TrainConfig)
Decide = Callable[[TrainConfig, AutoRequest], Mapping[str, Any]]
"""Function from settings and numbers of images to the settings that these decide."""


@dataclass(frozen=True)
class Settings(Generic[C]):
    """Settings with the source of each value."""

    config: C
    """Values; a setting that is `auto` has its fallback here until `with_data`."""
    auto: tuple[str, ...]
    """Settings that still wait for the data."""
    sources: Mapping[str, str]
    """Name of the layer that gave each value, in the order of the fields."""

    def with_data(self, decide: Decide, sources: int, targets: int) -> Settings[C]:
        """Return the settings with the values that the number of images decides.

        Args:
            decide: `from_data` of the method.
            sources: Number of source images.
            targets: Number of target images.

        Raises:
            ConfigError: A value that follows is impossible.
        """
        values = decide(
            self.config, AutoRequest(sources, targets, frozenset(self.auto), self.named())
        )
        try:
            config = replace(self.config, **values)
        except ValueError as error:
            raise ConfigError(
                f"{error}, with what the number of images decides; pass another value with --set"
            ) from error
        return Settings(config, (), {**self.sources, **dict.fromkeys(values, DATA)})

    def values(self) -> dict[str, Any]:
        """Return every value; `auto` where it waits for the data."""
        return {**vars(self.config), **dict.fromkeys(self.auto, AUTO)}

    def named(self) -> frozenset[str]:
        """Return the settings that a file or the command line gave a value, `auto` being none."""
        unnamed = (DEFAULT, DATA, base_layer(self.config.model))
        return frozenset(
            key
            for key, source in self.sources.items()
            if source not in unnamed and key not in self.auto
        )

    def with_seed(self, seed: int) -> Settings[C]:
        """Return the settings with another seed."""
        sources = {**self.sources, "seed": COMMAND}
        return Settings(replace(self.config, seed=seed), self.auto, sources)

    def changed(self) -> dict[str, Any]:
        """Return the values that are not the default."""
        defaults = _defaults(type(self.config))
        return {key: value for key, value in self.values().items() if value != defaults[key]}

    def rows(self) -> list[tuple[str, str, str]]:
        """Return name, value and source of every setting, for people."""
        return [(key, shown(value), self.sources[key]) for key, value in self.values().items()]

    def record(self) -> dict[str, Any]:
        """Return the record that a file keeps beside the values, see `adapt.settings.stored`."""
        return {
            "sources": {k: v for k, v in self.sources.items() if v != DEFAULT},
            "changed": sorted(self.changed()),
        }


def resolve(
    cls: type[C],
    dataset: str,
    method: str,
    overrides: Sequence[str] = (),
    folder: Path | None = None,
    *,
    task: str | None = None,
    presets: Sequence[str] = (),
) -> Settings[C]:
    """Return the settings of a method on a data set.

    A file names only what differs. It may end with two sections of values that go together:
    `tasks`, for what differs in one task, and `presets`, to be asked for by name (another backbone,
    a variant).

    Args:
        cls: The method's own configuration class.
        dataset: Name of a data set, or `folder` for the user's own image folders.
        method: Name of the method.
        overrides: Settings as `key=value`, the value a YAML scalar; the last one wins.
        folder: Folder of `<method>/<dataset>.yaml`; None means the shipped settings.
        task: Task of the data set.
        presets: Names of presets in the file, the last one wins.

    Raises:
        ConfigError: A file or preset does not exist, a key is unknown, a type or a value is wrong.
        BaseModelError: A base model or a weights file does not exist.
    """
    folder = folder or shipped()
    where = f"settings {method}/{dataset}"
    upper = [*file_layers(cls, dataset, method, folder, task, presets), _command(overrides)]
    for layer in upper:
        check_keys(cls, layer.values, "--set" if layer.name == COMMAND else where, method)
    lower = [Layer(DEFAULT, _defaults(cls))]
    # The base model is known first, through all layers; then it may recommend the rest.
    model, pretrained = (_last([*lower, *upper], key) for key in ("model", "pretrained"))
    advice: dict[str, Any] = {}
    if isinstance(model, str) and isinstance(pretrained, str):
        advice = base_models.recommended(model, method, cls, folder)
        lower.append(Layer(base_layer(model), {"interpolation": "bicubic", **advice}))
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for layer in (*lower, *upper):
        values |= layer.values
        sources |= dict.fromkeys(layer.values, layer.name)
    if overrides:
        where += " and command line"
    auto = tuple(key for key in may_be_auto(cls) if values[key] == AUTO)
    config = build(cls, {k: v for k, v in values.items() if k not in auto}, where, ConfigError)
    check_names(config)
    unsaid = "interpolation" not in advice
    if unsaid and sources["interpolation"] == base_layer(config.model):  # last: may import torch
        found = architectures.interpolation(config.model, config.pretrained)
        config = replace(config, interpolation=found)
    return Settings(config, auto, sources)


def base_layer(model: str) -> str:
    """Return the name of the layer of a base model."""
    return f"base model {model}"


def shipped() -> Path:
    """Return the folder of the shipped settings: the installed package's, else the checkout's."""
    here = Path(__file__).resolve().parents[1]
    packaged = here / "configs"
    return packaged if disk.is_folder(packaged) else here.parent / "configs"


def _command(overrides: Sequence[str]) -> Layer:
    return Layer(COMMAND, dict(text.override(one) for one in overrides))


def _defaults(cls: type[TrainConfig]) -> dict[str, Any]:
    values = {field.name: field.default for field in fields(cls)}
    return values | {key: AUTO for key, default in may_be_auto(cls).items() if default}


def _last(layers: Sequence[Layer], key: str) -> Any:
    return next(layer.values[key] for layer in reversed(layers) if key in layer.values)


def shown(value: object) -> str:
    """Return the value of a setting as files and the command line have it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
