"""Read the settings files of a method and a data set as layers of values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from adapt.registry import DATASETS, METHODS
from adapt.settings import base_models, text
from adapt.settings.config import TaskHeadConfig, TrainConfig
from runtime.errors import ConfigError
from runtime.lookup import imported
from runtime.storage import disk
from runtime.suggest import did_you_mean

PAPER = "paper"
PRESET = ", preset "
"""Text between the file and the preset in the name of a layer."""
EXTENDS = "extends"
"""Key of a data set's file that names another one below it: `extends: paper`."""


@dataclass(frozen=True)
class Layer:
    """The values of one file, section or option."""

    name: str
    values: Mapping[str, Any]


def file_layers(
    cls: type[TrainConfig],
    dataset: str,
    method: str,
    folder: Path,
    task: str | None,
    presets: Sequence[str],
) -> Iterator[Layer]:
    """Yield the layers of a data set's file and of the one that it extends, the lowest first.

    A method without any file, and a data set without any, have the defaults.

    Args:
        cls: Configuration class of the method.
        dataset: Name of the data set.
        method: Name of the method.
        folder: Folder of the settings files.
        task: Task of the data set, whose section is used.
        presets: Presets to use, the last one wins.

    Raises:
        ConfigError: A file or a preset is unknown, or a file is damaged or has an unknown key.
    """
    path = _find(dataset, method, folder)
    values, name = text.read(path) if disk.is_file(path) else {}, f"{method}/{path.name}"
    for_tasks, named = (text.sections(values, key, path) for key in ("tasks", "presets"))
    # Those not in use too: whoever writes the file tries one at a time.
    for section in (*for_tasks.values(), *named.values()):
        check_keys(cls, section, f"settings {method}/{dataset}", method)
    extended = values.pop(EXTENDS, None)
    if extended is not None:
        if extended != PAPER:
            raise ConfigError(
                f"'{EXTENDS}' in '{path}' must be {PAPER}, found {str(extended)[:60]!r}; correct "
                "the file"
            )
        below = path.with_name(f"{PAPER}.yaml")
        yield Layer(f"{method}/{below.name}", text.read(below))
    yield Layer(name, values)
    if task in for_tasks:
        yield Layer(f"{name}, task {task}", for_tasks[str(task)])
    for preset in presets:
        if preset not in named:
            _check_fixmatch(cls, method, preset)
            raise ConfigError(
                f"the settings {method}/{dataset} have no preset '{preset[:40]}'"
                f"{did_you_mean(preset, named)}; available: {', '.join(named) or 'none'}"
            )
        yield Layer(f"{name}{PRESET}{preset}", named[preset])


def preset_names(dataset: str, method: str, folder: Path) -> tuple[str, ...]:
    """Return the names of the presets in a data set's file.

    Args:
        dataset: Name of the data set.
        method: Name of the method.
        folder: Folder of the settings files.

    Raises:
        ConfigError: The file is unknown or damaged.
    """
    path = _find(dataset, method, folder)
    values = text.read(path) if disk.is_file(path) else {}
    return tuple(text.sections(values, "presets", path))


def _find(dataset: str, method: str, folder: Path) -> Path:
    every = [
        path
        for path in sorted(folder.glob("*/*.yaml"))
        if path.stem != PAPER and path.parent.name != base_models.FOLDER
    ]
    files = [path.stem for path in every if path.parent.name == method]
    known = method in METHODS and dataset in (*DATASETS, "folder")
    if dataset in files or (known and not (files and dataset in {p.stem for p in every})):
        return folder / method / f"{dataset}.yaml"
    others = files or [f"{path.parent.name}/{path.stem}" for path in every]
    raise ConfigError(
        f"no settings for method '{method}' on data set '{dataset}'"
        f"{did_you_mean(dataset, files)}; available: {', '.join(others) or 'none'}"
    )


def check_keys(cls: type[TrainConfig], values: Mapping[str, Any], where: str, method: str) -> None:
    """Refuse keys that are not settings of a method.

    Args:
        cls: Configuration class of the method.
        values: The values by key.
        where: File or option that they come from, for messages.
        method: Name of the method.

    Raises:
        ConfigError: A key is unknown.
    """
    known = sorted(field.name for field in fields(cls))
    for key in sorted(str(key) for key in values if key not in known):
        _check_fixmatch(cls, method, key)
        hint = did_you_mean(key, known) or f"; available: {', '.join(known)}"
        raise ConfigError(f"{where}: unknown key '{key[:80]}'{hint}")


def _check_fixmatch(cls: type[TrainConfig], method: str, name: str) -> None:
    """Say why a method cannot have FixMatch, if that is what a setting or a preset is for."""
    own = {field.name for field in fields(TaskHeadConfig)} - {f.name for f in fields(TrainConfig)}
    if name in own and not issubclass(cls, TaskHeadConfig):
        able = [n for n, e in METHODS.items() if issubclass(imported(e.config), TaskHeadConfig)]
        raise ConfigError(
            f"{name} needs a task head that learns from weak and strong views of target images, "
            f"but '{method}' {cls.no_fixmatch}; choose --method {' or '.join(able)}"
        )
