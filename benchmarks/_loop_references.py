"""What `benchmarks.loop` compares the loop with: other frames to train on, and another bundle."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import runtime
from adapt import data
from adapt.artifacts import store
from adapt.data.base import ImageSet
from adapt.demo import loop
from adapt.demo.camera import drifting
from adapt.demo.seen import phases
from adapt.demo.shell import Shell
from adapt.demo.watch import Watch

RANDOM, ALL, ZERO_SHOT = "random", "all", "zero_shot"
BESIDE = "c-r"
"""Task for cluttered scenes, which a router confuses with paintings."""


def references(shell: Shell, schedule: loop.Schedule, seed: int, words: str) -> dict[str, Any]:
    """Train on other frames of the new scene as on the harvest, and return the accuracies.

    Args:
        shell: Runs commands in a folder.
        schedule: Schedule of the loop.
        seed: Seed of the random frames.
        words: Further options of the training.
    """
    paintings, root = data.load(loop.DATASET, "p-a").target, shell.folder / store.ROOT
    some = np.random.default_rng(seed).permutation(len(paintings))[: schedule.harvest]
    found: dict[str, Any] = {"frames": {RANDOM: len(some), ALL: len(paintings)}}
    loop.copy_source(shell)
    for name, images in ((RANDOM, paintings.subset(some)), (ALL, paintings)):
        _copy(images, shell.folder / loop.IMAGES / name)
        shell(loop.train_command(name, schedule, f"{words} --no-baselines --resume"))
        path = store.find(root, f"{loop.SOURCE}-{name}", loop.IMAGES)
        found[name] = _accuracies(shell, path, seed)
    shell(
        f"uda-adapt train --data {loop.IMAGES} --source {loop.SOURCE} --target {ALL} --method "
        f"{ZERO_SHOT} {loop.MODEL} {words} --resume"
    )
    path = store.find(root, f"{loop.SOURCE}-{ALL}", loop.IMAGES, ZERO_SHOT)
    return found | {ZERO_SHOT: _accuracies(shell, path, seed)}


def beside(
    shell: Shell, artifacts: Sequence[Path], schedule: loop.Schedule, seed: int
) -> dict[str, Any]:
    """Show the drift to a bundle with another task, and return the figures of each part.

    Args:
        shell: Runs commands in a folder.
        artifacts: Artifacts of `loop.OLD` and `BESIDE`.
        schedule: Schedule of the loop.
        seed: Seed of the loop.
    """
    bundle = loop.export(shell, artifacts, "beside.bundle")
    scenes = loop.Scenes(seed)
    with runtime.Session.open(bundle) as session:
        watch = Watch(session)
        watch.see_all("usual", scenes.clip_art.show(schedule.usual))
        watch.see_all("drift", drifting(scenes.clip_art, scenes.paintings, schedule.drift, seed))
        watch.see_all("after", scenes.new_paintings.show(schedule.after))
    return phases(watch.seen)


def _accuracies(shell: Shell, artifact: Path, seed: int) -> dict[str, float]:
    """Return the accuracies of an artifact as a session has them."""
    bundle = loop.export(shell, [artifact], f"{artifact.parents[1].name}.bundle")
    with runtime.Session.open(bundle) as session:
        return loop.Scenes(seed).accuracies(session, artifact.parents[1].name)


def _copy(images: ImageSet, folder: Path) -> None:
    """Copy images into a folder of their own, without their labels."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for number, path in enumerate(images.paths):
        shutil.copyfile(path, folder / f"{number:04}.png")
