"""Write the commands that make, evaluate and export an artifact again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adapt.artifacts import store
from adapt.data.origin import Origin
from adapt.registry import DATASETS
from adapt.settings import text
from adapt.settings.files import PRESET
from adapt.settings.layers import COMMAND, shown
from runtime.errors import ConfigError
from runtime.models import TaskInfo
from runtime.text import shell_command

_FLAGS = {("rst", True): "--rst", ("rst", False): "--no-rst"}
_OPTIONS = {"seed": "--seed", "select": "--select", "grid": "--grid"}
"""Options by the setting that they stand for."""


def image_options(task: TaskInfo, origin: Origin | None) -> list[str]:
    """Return the options that name a task's images; words in capitals where they are unknown.

    Args:
        task: Task of the images.
        origin: Where training found them.
    """
    root = origin.root if origin else None
    if task.dataset in DATASETS and (origin is None or origin.source is None):
        named = ["--dataset", task.dataset, "--task", task.id]
        return [*named, "--data", root] if root else named
    source, target = (origin.source, origin.target) if origin else (task.source, task.target)
    words = ["--data", root or "ROOT", "--source", source or "", "--target", target or ""]
    return [*words, "--test", origin.test] if origin and origin.test else words


def train_command(
    task: TaskInfo,
    method: str,
    origin: Origin | None,
    config: Mapping[str, Any],
    sources: Mapping[str, Any] | None,
    root: str | Path | None = None,
) -> str:
    """Return the command that trains a task again with the same settings.

    Args:
        task: Task that was trained.
        method: Name of the method.
        origin: Where training found the images.
        config: Settings of the artifact.
        sources: Layer of each setting that is not the default; None where it is unknown, and every
            setting is named.
        root: Root folder of the artifacts; None for the default.
    """
    words = ["uda-adapt", "train", *image_options(task, origin), "--method", method]
    presets = _presets(sources or {})
    own = {COMMAND, *(presets if len(presets) > 1 else ())}  # their order is not known
    named = {k: v for k, v in config.items() if sources is None or str(sources.get(k)) in own}
    for key, value in named.items():
        if (key, value) in _FLAGS:
            words.append(_FLAGS[key, value])
        elif key in _OPTIONS:
            words += [_OPTIONS[key], str(value)]
    if len(presets) == 1:
        words += ["--preset", presets[0].rpartition(PRESET)[2]]
    for key, value in named.items():
        if key not in _OPTIONS and (key, value) not in _FLAGS:
            words += ["--set", f"{key}={_scalar(key, value)}"]
    return shell_command([*words, *artifacts_option(root)])


def _presets(sources: Mapping[str, Any]) -> list[str]:
    """Return the layers of the presets that gave a value."""
    layers = dict.fromkeys(str(layer) for layer in sources.values())
    return [layer for layer in layers if PRESET in layer]


def _scalar(key: str, value: object) -> str:
    """Return a value as `--set` reads it back: plain, or in quotes."""
    plain = shown(value)
    try:
        same = text.override(f"{key}={plain}")[1] == value and "'" not in plain
    except ConfigError:
        same = False
    return plain if same else json.dumps(value, ensure_ascii=False)


def export_command(task: TaskInfo, variant: str, root: Path) -> str:
    """Return the command that exports a trained task.

    Args:
        task: Task that was trained.
        variant: Variant of the artifact.
        root: Root folder of the artifacts.
    """
    words = ["uda-export", "onnx", "--task", f"{task.id}={variant}"]
    if {entry.dataset for entry in store.entries(root, task.id)} - {task.dataset}:
        words += ["--dataset", task.dataset]  # several have a task of that id
    return shell_command([*words, *artifacts_option(root), "--out", f"{task.id}.bundle"])


def artifacts_option(root: str | Path | None) -> Sequence[str]:
    """Return the option that names the root folder of artifacts, if it is not the default."""
    return [] if root is None or str(root) == store.ROOT else ["--artifacts", str(root)]
