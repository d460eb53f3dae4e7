"""Load the images of a task, split as training split them, and find the artifacts to evaluate."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapt import methods
from adapt.artifacts import store
from adapt.data import DomainPair
from adapt.settings.architectures import SUFFIXES
from adapt.settings.layers import COMMAND, resolve
from adapt.settings.stored import partial_classes, sources_of

if TYPE_CHECKING:
    from adapt.artifacts.artifact import Artifact

ZERO_SHOT, PROBE = "zero_shot", "linear_probe"
"""Baselines that stand beside every comparison."""
_BASE = ("model", "pretrained")
_OWN = ("prompt", "resize", "interpolation", "background")
"""Settings of zero-shot CLIP that a run may have changed by name."""


@dataclass(frozen=True, eq=False)
class Stored:
    """A task's images, and the artifacts that can be evaluated on them."""

    pair: DomainPair
    files: Mapping[str, Path]
    """Artifacts by variant."""
    settings: Mapping[str, Any]
    """Settings that the images were split with."""
    zero_shot: Mapping[str, Any]
    """Settings of zero-shot CLIP."""
    left_out: tuple[str, ...] = ()
    """Variants that were trained for another set of target classes."""
    dataset: str | None = None
    """Name of the data set; None for the user's own images."""
    which: str = ""
    """Description of the images where the artifact remembered them; empty if they were named."""


def stored(
    pair_of: Callable[..., DomainPair], root: Path, dataset: str | None, method: str | None = None
) -> Stored:
    """Return the images of a task, split as the training of its artifacts did.

    Args:
        pair_of: Function from `adapt.commands.image_options.pair_loader`.
        root: Folder of the artifacts.
        dataset: Name of the data set, or None for the user's own folders.
        method: Variant whose training decides how the images are split; None: the first one.

    Raises:
        TaskError: The task has no artifact of the method.
        UdaError: Images or artifacts are unusable.
    """
    settings = default_settings(dataset)
    pair = pair_of(settings["holdout"], settings["seed"], 0)  # the target may lack classes
    files = store.variants(root, pair.task.dataset, pair.task.id)
    if method is not None and method != ZERO_SHOT:
        store.find(root, pair.task.id, pair.task.dataset, method)
    if not files:
        return Stored(pair, {}, settings, settings, dataset=dataset)
    artifact = _first(files, method)
    config = artifact.config
    pair = pair_of(config["holdout"], config["seed"], partial_classes(config))
    return _stored(pair, files, artifact, method, dataset)


def remembered(
    root: Path,
    dataset: str,
    task: str,
    method: str | None = None,
    data: Path | None = None,
    test: str | None = None,
    option: str | None = None,
) -> Stored:
    """Return the images of a task from where its artifact says that they are.

    Args:
        root: Folder of the artifacts.
        dataset: Data set of the task; it may be the user's own.
        task: Id of a task that has artifacts of that data set.
        method: Variant whose images are taken; None: the first one.
        data: Folder of the data set if it has moved since training.
        test: Other images to test on, as for `--test`.
        option: Option that names these, for messages.

    Raises:
        TaskError: The task has no artifact of the method.
        DataError: The images are gone, or have changed.
        UdaError: Images or artifacts are unusable.
    """
    files = store.variants(root, dataset, task)
    if method is not None and method != ZERO_SHOT:
        store.find(root, task, dataset, method)
    from adapt.evaluation.remembered import is_own, training_images

    artifact = _first(files, method)
    pair, which = training_images(artifact, data, option=option, whole=True, test=test)
    known = None if is_own(artifact) else dataset
    return replace(_stored(pair, files, artifact, method, known), which=which)


def _first(files: Mapping[str, Path], method: str | None) -> Artifact:
    """Return the artifact of a variant, or the first one."""
    from adapt.artifacts.artifact import Artifact  # imports torch

    return Artifact.load(files.get(method or "", next(iter(files.values()))))


def _stored(
    pair: DomainPair,
    files: Mapping[str, Path],
    artifact: Artifact,
    method: str | None,
    dataset: str | None,
) -> Stored:
    """Return images with the variants that have the same target classes as an artifact."""
    settings = dict(artifact.config)
    same = {n: p for n, p in files.items() if ("partial" in n.split("-")) == settings["partial"]}
    if method is None and ZERO_SHOT in same:
        artifact = _first(same, ZERO_SHOT)
    left_out = tuple(files.keys() - same.keys())
    zero_shot = zero_shot_settings(dataset, artifact)
    return Stored(pair, same, settings, zero_shot, left_out, dataset)


def default_settings(dataset: str | None) -> dict[str, Any]:
    """Return zero-shot CLIP's shipped settings for a data set; None for the user's own folders."""
    settings = resolve(methods.get_config(ZERO_SHOT), dataset or "folder", ZERO_SHOT)
    return dict(vars(settings.config))


def zero_shot_settings(dataset: str | None, artifact: Artifact) -> dict[str, Any]:
    """Return the settings of zero-shot CLIP beside an artifact: those of the method `zero_shot`.

    Methods differ in captions and resizing, but zero-shot CLIP has one accuracy: the artifact says
    only which base model, and what its user named on the command line.

    Args:
        dataset: Name of the data set; None for the user's own folders.
        artifact: Artifact of any method.
    """
    config = dict(artifact.config)
    sources = sources_of(artifact.optional)
    if artifact.method == ZERO_SHOT or sources is None:
        return config
    named = {key: config[key] for key in _OWN if sources.get(key) == COMMAND}
    if artifact.architecture:  # its file may be gone, or hold something else
        named = {"interpolation": artifact.architecture.pixels.interpolation, **named}
        return {**default_settings(dataset), **{key: config[key] for key in _BASE}, **named}
    # A weights file may have moved; its name decides nothing but whether it is there.
    is_path = Path(config["pretrained"]).suffix.lower() in SUFFIXES
    keys = [key for key in _BASE if key != "pretrained" or not is_path]
    base = [f"{key}={json.dumps(config[key], ensure_ascii=False)}" for key in keys]
    found = resolve(methods.get_config(ZERO_SHOT), dataset or "folder", ZERO_SHOT, base)
    return {**vars(found.config), "pretrained": config["pretrained"], **named}
