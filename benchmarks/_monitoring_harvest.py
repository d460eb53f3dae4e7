"""How well a task learns from what is harvested, beside other choices of as many frames.

A camera sees another domain than its task was adapted to: the task goes through that domain's
training images in random order, a harvester keeps some, and a new task is trained on them alone.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks._monitoring_figures import HARVESTED, Figure
from benchmarks._monitoring_runs import trained_on
from benchmarks._monitoring_world import Pixels, View, World
from runtime.monitoring.confidence import softmax
from runtime.monitoring.gaussian import Features, unit
from runtime.monitoring.harvest import Harvester
from runtime.monitoring.harvested import TRUSTED
from runtime.monitoring.statistics import TaskStatistics
from runtime.monitoring.table import Route

IMAGES = 200
OURS = "harvested: surer half, spread"
Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _Seen:
    """A frame and what a task says of it, as a harvester takes it."""

    task: str
    label: str
    score: float
    logits: Features
    features: Features
    statistics: TaskStatistics
    blank: bool = False
    route: Route | None = None


def measure(world: World, model: str, root: Path) -> list[Figure]:
    """Return accuracies of tasks trained anew below a folder, by the choice of frames.

    Each task's frames are chosen by the one before it that knows the same classes.

    Args:
        world: Domains and tasks.
        model: Base model.
        root: Folder of the runs.
    """
    found: list[Figure] = []
    for view in world.views:
        olds = [v for v in world.views if v.own != view.own and v.own in world.others(view)]
        if olds:
            found += _task(world, model, view, olds[0], root)
    return found


def _task(world: World, model: str, view: View, old: View, root: Path) -> list[Figure]:
    pair, domain = world.sets.pair(view.id), world.domains[view.own]
    logits = old.look(domain.train)[1]
    scores = softmax(logits).max(-1)
    draw, surest = np.random.default_rng(world.seed), np.argsort(-scores, kind="stable")
    chosen = {
        OURS: _harvested(old, domain.train, world.seed),
        "random": draw.permutation(len(scores))[:IMAGES],
        "surest": surest[:IMAGES],
        "least sure": surest[-IMAGES:],
    }
    case = f"{view.id}, seen by {old.id}"
    with torch.inference_mode():
        text = world.clip.text_features(view.artifact.prompts).float().numpy()
    answers = {
        "zero-shot": unit(domain.base_test) @ unit(text).T,
        "old task": old.look(domain.test)[1],
        "all frames": view.look(domain.test)[1],
    }
    found = [
        Figure(HARVESTED, rule, case, 100 * float((each.argmax(-1) == domain.labels).mean()))
        for rule, each in answers.items()
    ]
    for rule, rows in chosen.items():
        some = replace(pair, target=pair.target.subset(np.sort(rows)))
        place = root / model / f"seed{world.seed}-harvest" / old.id / rule.split(":")[0]
        settings = (f"model={model}", *world.sets.settings)
        artifact = trained_on(some, settings, world.seed, place)
        accuracy = artifact.metrics["last"]["accuracy"]
        found.append(Figure(HARVESTED, rule, case, accuracy))
    return found


def _harvested(old: View, images: Pixels, seed: int) -> Rows:
    """Return which images a harvester trusts when it sees them all, in random order."""
    features, logits = old.look(images)
    scores, predicted = softmax(logits).max(-1), logits.argmax(-1)
    rows = {images[row].tobytes(): row for row in range(len(images))}
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "harvest"
        with Harvester(store, images=2 * IMAGES, every=1, seed=seed) as harvester:
            for row in np.random.default_rng(seed).permutation(len(images)):
                seen = _Seen(
                    old.id,
                    old.artifact.task.classes[predicted[row]],
                    float(scores[row]),
                    logits[row],
                    features[row],
                    old.statistics,
                )
                harvester.offer(images[row], seen, wait=True)
        files = sorted((store / TRUSTED).iterdir())
        return np.array([rows[np.asarray(Image.open(file)).tobytes()] for file in files])
