"""How often frames are routed to the right task: the packages' rule beside simpler ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from adapt.evaluation.statistics import MOST_KEPT
from benchmarks._monitoring_figures import OURS, ROUTED, Figure
from benchmarks._monitoring_world import Domain, Pixels, World
from export.routing import whitening_of
from runtime import Router
from runtime.models import Preprocess
from runtime.monitoring import routing, table, whitening
from runtime.monitoring.gaussian import Features, unit
from runtime.monitoring.table import RoutingTable
from runtime.monitoring.whitening import Whitening

FRAMES, DRAWS, PER_CLASS = 15, 1000, 100
Score = Callable[[Domain], NDArray[np.floating]]


def routing_table(base: Mapping[str, Features], spec: Preprocess) -> RoutingTable:
    """Return the table of a bundle, through the files' half precision, as the export makes it.

    Args:
        base: For each task, base features (N, D) of its training images.
        spec: Preprocessing of all frames.
    """
    kept = {}
    for task, rows in base.items():
        some = np.unique(np.linspace(0, len(rows) - 1, MOST_KEPT).round().astype(np.int64))
        kept[task] = unit(rows[some].astype(np.float16))
    shared = Whitening.decode(whitening_of(kept).encode(), Path("whitening"))
    tasks = {}
    for task, rows in kept.items():
        own = routing.fit(rows, shared)
        stored = routing.read({routing.MEMBER: own.document()}, own.tensors())
        assert stored is not None
        tasks[task] = (table.place(task, stored, shared), spec)
    return RoutingTable(shared, tasks)


def tasks_table(world: World) -> RoutingTable:
    """Return the routing table of a bundle of the tasks of a world."""
    base = {view.id: world.domains[view.own].base_train for view in world.views}
    return routing_table(base, world.spec)


def measure(world: World, seed: int) -> list[Figure]:
    """Return the figures of bundles for the tasks' own domains, if several, and for all domains."""
    own = list(dict.fromkeys(view.own for view in world.views))
    found = []
    for bundle, shorts in zip(ROUTED, (own, list(world.domains)), strict=True):
        if len(shorts) < 2:
            continue
        domains = {short: world.domains[short] for short in shorts}
        ours = routing_table({s: d.base_train for s, d in domains.items()}, world.spec)
        rules = {OURS: lambda d, t=ours: t.scores(d.base_test[:, None]), **_simpler(domains)}
        for rule, score in rules.items():
            for position, domain in enumerate(domains.values()):
                shares = _shares(score(domain), domain.labels, position, seed)
                found += [
                    Figure(f"routing, {bundle}, {frames}, %", rule, domain.name, 100 * share)
                    for frames, share in shares.items()
                ]
        found += _router(ours, domains, bundle, seed)
    return found


def _shares(
    scores: NDArray[np.floating], labels: NDArray[np.int64], own: int, seed: int
) -> dict[str, float]:
    """Return the shares of single frames and of draws of 15 that are routed to domain `own`."""
    draw = np.random.default_rng(seed)

    def right(rows: NDArray[np.int64]) -> bool:
        some = draw.choice(rows, FRAMES, replace=len(rows) < FRAMES)
        return bool(scores[some].mean(0).argmin() == own)

    alike = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    return {
        "single frame": float((scores.argmin(1) == own).mean()),
        "15 frames": float(np.mean([right(np.arange(len(scores))) for _ in range(DRAWS)])),
        "15 frames of one class": float(
            np.mean([right(rows) for rows in alike for _ in range(PER_CLASS)])
        ),
    }


def _simpler(domains: Mapping[str, Domain]) -> dict[str, Score]:
    trained = [unit(domain.base_train) for domain in domains.values()]
    drawn = [pixel_statistics(domain.train) for domain in domains.values()]
    middle = np.concatenate(drawn).mean(0)
    apart = np.concatenate([rows - rows.mean(0) for rows in drawn])
    scale = np.maximum(apart.std(0), 1e-6)  # some do not vary, as the border of digits
    lda, plain = _lda(trained), _lda([(rows - middle) / scale for rows in drawn])
    means = np.stack([rows.mean(0) for rows in trained])
    return {
        "nearest mean": lambda d: _squares(unit(d.base_test), means),
        "one mean, shared covariance (LDA)": lambda d: lda(unit(d.base_test)),
        "24 pixel statistics, LDA": lambda d: plain((pixel_statistics(d.test) - middle) / scale),
    }


def _lda(groups: Sequence[Features]) -> Callable[[Features], Features]:
    shared = whitening.fit(groups)
    means = shared.apply(np.stack([rows.mean(0) for rows in groups]).astype(np.float32))
    return lambda rows: _squares(shared.apply(rows), means)


def _squares(rows: Features, means: Features) -> Features:
    return ((rows[:, None] - means) ** 2).sum(-1)


def pixel_statistics(images: Pixels) -> Features:
    """Return 24 numbers (N, 24) of images (N, S, S, 3) that take no network.

    For each colour: mean, spread, three quantiles, the mean steps to the right and down, and the
    mean of the border.
    """
    wide = images.astype(np.float32) / 255
    flat = wide.reshape(len(wide), -1, 3)
    border = np.concatenate([wide[:, 0], wide[:, -1], wide[:, :, 0], wide[:, :, -1]], 1)
    parts = [flat.mean(1), flat.std(1), *np.quantile(flat, (0.1, 0.5, 0.9), 1), border.mean(1)]
    parts += [np.abs(np.diff(wide, axis=axis)).mean((1, 2)) for axis in (1, 2)]
    found: Features = np.concatenate(parts, 1).astype(np.float32)
    return found


def _router(
    ours: RoutingTable, domains: Mapping[str, Domain], bundle: str, seed: int
) -> list[Figure]:
    """Return how often a `Router` that looks at each frame is right, from its first frame."""
    found, name = [], f"router, {bundle}, frames of the right task, %"
    for short, domain in domains.items():
        orders = {
            "random order": np.random.default_rng(seed).permutation(len(domain.labels)),
            "class by class": np.argsort(domain.labels, kind="stable"),
        }
        for rule, order in orders.items():
            router, right = Router(every=1), 0
            for row in domain.base_test[order]:
                (route,) = router.decide(ours, 1, {0: row[None]}) or [None]
                right += route is not None and route.known and route.task == short
            found.append(Figure(name, rule, domain.name, 100 * right / len(order)))
    return found
