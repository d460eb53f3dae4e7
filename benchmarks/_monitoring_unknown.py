"""How well frames that a task does not know are distinguished from its own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks._monitoring_figures import SHOWN, Figure
from benchmarks._monitoring_scores import Scorer, Scores, auroc
from benchmarks._monitoring_world import Pixels, View, World
from runtime.frames.blank import blank
from runtime.frames.preprocess import preprocess_batch
from runtime.monitoring.table import RoutingTable

REJECT = 0.01
LARGER = 8
"""Pixels of a camera along one of a task's: noise of a sensor is averaged out."""
EACH = 100
"""Frames of each blank kind."""


def measure(world: World, table: RoutingTable, seed: int) -> list[Figure]:
    """Return the figures of frames that show something else, or nothing.

    Args:
        world: Domains and tasks.
        table: Routing table of a bundle of the tasks.
        seed: Seed of the frames that are drawn.
    """
    found: list[Figure] = []
    for view in world.views:
        scorer, own = Scorer(world, view, table), world.domains[view.own]
        usual = scorer.of(own.test)

        domains = [
            *(("foreign content, AUROC", short) for short in world.foreign(view)),
            *(("other domain, same classes, AUROC", short) for short in world.others(view)),
        ]
        for name, short in domains:
            domain = world.domains[short]
            found += _compared(name, f"{view.id}: {domain.name}", usual, scorer.of(domain.test))
        rates = {"own test images": _unknown(view, own.test, own.test)}
        shown = usual | {SHOWN: _shown(usual, own.test)}
        for kind, frames in _blanks(own.test, np.random.default_rng(seed)).items():
            images = preprocess_batch(list(frames), world.spec)
            name = "flat, covered and broken frames, AUROC"
            strange = scorer.of(images)
            strange[SHOWN] = _shown(strange, frames)
            found += _compared(name, f"{view.id}: {kind}", shown, strange)
            rates[kind] = _unknown(view, frames, images)
        name = "taken for unknown at reject=0.01, %"
        found += [Figure(name, kind, view.id, 100 * rate) for kind, rate in rates.items()]
        found += _right_or_wrong(view, usual, own.test, own.labels)
    return found


def _compared(name: str, case: str, usual: Scores, strange: Scores) -> list[Figure]:
    return [Figure(name, rule, case, auroc(usual[rule], strange[rule])) for rule in usual]


def _shown(scores: Scores, frames: Pixels) -> NDArray[np.floating]:
    """Return the novelty (N,), above all others where a frame shows nothing, as for sessions."""
    return np.where([blank(each) for each in frames], 2.0, scores["novelty"])


def _unknown(view: View, frames: Pixels, images: Pixels) -> float:
    """Return the share of frames that a session would call unknown, as it looks at both.

    Args:
        view: The task.
        frames: Frames of a camera.
        images: The same, preprocessed.
    """
    known = view.statistics.known(view.look(images)[0], REJECT)
    return float(np.mean([blank(each) for each in frames] | ~known))


def _right_or_wrong(
    view: View, scores: Scores, images: Pixels, labels: NDArray[np.int64]
) -> list[Figure]:
    right = view.look(images)[1].argmax(-1) == labels
    found = [Figure("accuracy, %", "all classes", view.id, 100 * float(right.mean()))]
    return found + [
        Figure("right or wrong, AUROC", rule, view.id, auroc(each[right], each[~right]))
        for rule, each in scores.items()
        if right.any() and not right.all()
    ]


def _blanks(images: Pixels, draw: np.random.Generator) -> dict[str, Pixels]:
    """Return frames of a camera that show nothing, by kind."""
    large = images[:EACH].repeat(LARGER, 1).repeat(LARGER, 2)
    shape = large.shape

    def noisy(colour: NDArray[np.int64], deviation: float) -> Pixels:
        return np.clip(colour + draw.normal(0, deviation, shape), 0, 255).astype(np.uint8)

    broken = large.copy()
    broken[:, shape[1] // 2 :] = 128  # as decoders fill what is missing
    return {
        "flat": noisy(draw.integers(0, 256, (EACH, 1, 1, 3)), 4),
        "covered": noisy(draw.integers(0, 40, (EACH, 1, 1, 1)), 6),
        "broken off": broken,
        "noise": _noise(images[:EACH].shape, draw).repeat(LARGER, 1).repeat(LARGER, 2),
    }


def _noise(shape: tuple[int, ...], draw: np.random.Generator) -> Pixels:
    return draw.integers(0, 256, shape).astype(np.uint8)
