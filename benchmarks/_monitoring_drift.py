"""False alarms of drift on streams with runs, and how soon a change of scene is found.

Frames are those that a monitor looks at.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks._monitoring_figures import Figure
from benchmarks._monitoring_streams import Rows, raised, streams, sums
from benchmarks._monitoring_world import Domain, View, World
from runtime.monitoring.gaussian import Features, unit
from runtime.monitoring.table import RoutingTable

STREAMS, FRAMES = 300, 1000
"""Streams without a change, of so many frames."""
CHANGES, BEFORE, MOST, GRADUAL = 100, 50, 1000, 300
"""Streams with a change, frames before it, most frames after it, and frames that a gradual one
takes."""
RUN = (15, 15)
KINDS = {
    "runs of 1 to 30": ((1, 30), 1),
    "runs of 15": ((15, 15), 1),
    "runs of 30": ((30, 30), 1),
    "each image 10 times": ((1, 1), 10),
    "independent": ((1, 1), 1),
}
"""Least and most frames of a run, and how often each image is repeated."""
WITH_RUNS = ("runs of 1 to 30", "runs of 15", "runs of 30")


class _Scored(NamedTuple):
    """What a monitor takes from each image of a domain."""

    distances: Features
    """Under the task."""
    excess: Features
    """Under the untouched base."""
    predicted: Rows
    labels: Rows


def measure(world: World, table: RoutingTable, seed: int) -> list[Figure]:
    """Return the figures of all tasks.

    Args:
        world: Domains and tasks.
        table: Routing table of a bundle of the tasks.
        seed: Seed of the streams.
    """
    found = []
    for view in world.views:
        draw = np.random.default_rng(seed)
        own = _scored(world.domains[view.own], view, table)
        for kind, (run, repeated) in KINDS.items():
            rows = streams(own.labels, STREAMS, FRAMES, draw, run, repeated)
            for rule, levels in _levels(view, own, rows).items():
                value = 1e5 * raised(levels).sum() / levels.size
                name = "false alarms in 100,000 frames"
                if kind in WITH_RUNS:
                    name += " with runs"
                found.append(Figure(name, rule, f"{view.id}: {kind}", float(value)))
        for short in world.others(view):
            found += _changes(world, table, view, own, short, draw)
    return found


def _changes(
    world: World, table: RoutingTable, view: View, own: _Scored, short: str,
    draw: np.random.Generator,
) -> list[Figure]:  # fmt: skip
    """Return how soon the change to another domain is found."""
    other = _scored(world.domains[short], view, table)
    both = _Scored(*(np.concatenate(pair) for pair in zip(own, other, strict=True)))
    usual = streams(own.labels, CHANGES, BEFORE + MOST, draw, RUN)
    new = streams(other.labels, CHANGES, BEFORE + MOST, draw, RUN) + len(own.labels)
    time = np.arange(BEFORE + MOST) - BEFORE
    sudden = np.where(time < 0, usual, new)
    gradual = np.where(draw.random(usual.shape) * GRADUAL > time, usual, new)
    case = f"{view.id}: {world.domains[short].name}"
    pairs = world.sets.pairs(view.id, short)
    found = []
    for rule, levels in _levels(view, both, sudden).items():
        delays = _delays(levels)
        name = f"frames until a sudden change is found, {pairs}"
        found.append(Figure(name, rule, case, float(delays.mean())))
        missed = 100 * float((delays >= MOST).mean())
        found.append(Figure("sudden changes that are not found, %", rule, case, missed))
    name = "frames until a gradual change is found"
    for rule, levels in _levels(view, both, gradual).items():
        found.append(Figure(name, rule, case, float(_delays(levels).mean())))
    return found


def _scored(domain: Domain, view: View, table: RoutingTable) -> _Scored:
    features, logits = view.look(domain.test)
    own = table.index(view.id)
    return _Scored(
        view.statistics.gaussian.distances(unit(features)),
        table.excess(table.scores(domain.base_test[:, None]))[:, own],
        logits.argmax(-1),
        domain.labels,
    )


def _levels(view: View, scored: _Scored, rows: Rows) -> dict[str, NDArray[np.float64]]:
    """Return the sums (S, T) of streams, as shares of the threshold."""
    limits = view.statistics.drift, view.statistics.base_drift
    assert limits[0] is not None and limits[1] is not None
    patched = sums(limits[0], scored.distances, scored.predicted, rows)
    base = sums(limits[1], scored.excess, scored.predicted, rows)
    return {"both": np.maximum(patched, base), "patched features": patched, "base features": base}


def _delays(levels: NDArray[np.float64]) -> Rows:
    """Return the frames (S,) from the change until the sums say that the scene has drifted."""
    after = levels[:, BEFORE:] >= 1
    return np.where(after.any(1), after.argmax(1) + 1, MOST)
