"""The images of a task and the artifacts that can be judged on them, split as training did."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapt import methods, store
from adapt.data import DomainPair
from adapt.settings.layers import resolve

ZERO_SHOT = "zero_shot"


@dataclass(frozen=True, eq=False)
class Stored:
    """A task's images, and the artifacts that can be judged on them."""

    pair: DomainPair
    files: Mapping[str, Path]
    """Artifacts by variant."""
    settings: Mapping[str, Any]
    """Those that the images were split with; zero-shot CLIP is judged with them."""
    left_out: tuple[str, ...]
    """Variants that were trained for another set of target classes."""


def stored(
    pair_of: Callable[..., DomainPair], root: Path, dataset: str | None, method: str | None = None
) -> Stored:
    """Return the images of a task, split as the training of its artifacts did.

    Args:
        pair_of: From `adapt.options.pair_loader`.
        root: Folder of the artifacts.
        dataset: Its name, or None for the user's own folders.
        method: Variant whose training says how the images are split; else the first there is.

    Raises:
        TaskError: There is no artifact of the method.
        UdaError: Images or artifacts are unusable.
    """
    settings = default_settings(dataset)
    pair = pair_of(settings["holdout"], settings["seed"], 0)  # the target may lack classes
    files = store.variants(root, pair.task.dataset, pair.task.id)
    if method is not None and method != ZERO_SHOT:
        store.find(root, pair.task.id, pair.task.dataset, method)
    if not files:
        return Stored(pair, {}, settings, ())
    from adapt.artifact import Artifact  # imports torch

    settings = dict(Artifact.load(files.get(method or "", next(iter(files.values())))).config)
    partial = settings["target_classes"] if settings["partial"] else None
    pair = pair_of(settings["holdout"], settings["seed"], partial)
    same = {n: p for n, p in files.items() if ("partial" in n.split("-")) == settings["partial"]}
    return Stored(pair, same, settings, tuple(files.keys() - same.keys()))


def default_settings(dataset: str | None) -> dict[str, Any]:
    """Return zero-shot CLIP's shipped settings for a data set; None for the user's own folders."""
    settings = resolve(methods.get_config(ZERO_SHOT), dataset or "folder", ZERO_SHOT)
    return dict(vars(settings.config))
