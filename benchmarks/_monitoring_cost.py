"""What monitoring costs: time of a frame, on one thread of NumPy, and bytes of files.

Statistics are those of random features, with the classes and sizes of real encoders: neither time
nor size depends on the values.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from safetensors.numpy import save

from benchmarks._monitoring_figures import MANY, STORED, WATCHED, Figure
from benchmarks._monitoring_routing import routing_table
from benchmarks._random import random_tower
from export.routing import whitening_of
from runtime.models import Preprocess
from runtime.monitoring import routing
from runtime.monitoring.cusum import Limits
from runtime.monitoring.fit import base_limits, task_statistics
from runtime.monitoring.gaussian import Features, unit
from runtime.monitoring.statistics import TaskStatistics

SIZES, CLASSES, IMAGES = (512, 768), 65, 1024
"""Dimensions of features, classes, and images of a task."""
BUNDLES = {3: "distances to 3 tasks", 20: "distances to 20 tasks", 200: MANY}
REJECT = 0.01
ROUNDS, FRAMES = 25, 50


def measure(seed: int) -> list[Figure]:
    """Return microseconds of a frame, megabytes of a file, and shares of a ViT-B/16's frame."""
    found, draw = [], np.random.default_rng(seed)
    encoder = _vit()
    for size in SIZES:
        rows = draw.normal(size=(IMAGES, size)).astype(np.float32)
        predicted = draw.integers(0, CLASSES, IMAGES)
        statistics = task_statistics(rows, predicted, CLASSES)
        base = base_limits(rows, predicted, CLASSES)
        domains = {f"{n}": unit(rows[:64] + draw.normal(size=size)).astype(np.float32)
                   for n in range(max(BUNDLES))}  # fmt: skip
        tables = {n: routing_table(dict(list(domains.items())[:n]), Preprocess(224))
                  for n in BUNDLES}  # fmt: skip
        times = {
            "novelty, affinity and known": _micro(partial(_unknown, statistics, rows[0])),
            "drift": _micro(partial(_drift, statistics, unit(rows[0]))),
        }
        times[WATCHED] = sum(times.values())
        for count, table in tables.items():
            times[BUNDLES[count]] = _micro(partial(table.scores, rows[:1, None]))
        name = f"cost at D = {size}"
        for rule, each in times.items():
            found.append(Figure(f"{name}, microseconds a frame", rule, "frame", each))
            share = 100 * each / encoder
            found.append(Figure(f"{name}, % of a ViT-B/16 frame", rule, "frame", share))
        if size == SIZES[0]:
            found += _sizes(unit(rows), statistics, base)
    return found


def _sizes(rows: Features, statistics: TaskStatistics, base: Limits) -> list[Figure]:
    shared = whitening_of({"a": rows})
    whole = replace(statistics, base_drift=base).tensors()
    own = save({**whole, **routing.fit(rows, shared).tensors()})
    return [
        Figure("size of a bundle's whitening, MB", STORED, "D = 512", len(shared.encode()) / 1e6),
        Figure("size of a task's members, MB", STORED, "D = 512", len(own) / 1e6),
    ]


def _unknown(statistics: TaskStatistics, features: Features) -> None:
    rows = features[None]
    statistics.accepts(statistics.novelty(rows), statistics.affinity(rows), REJECT)


def _drift(statistics: TaskStatistics, features: Features) -> None:
    assert statistics.drift is not None
    statistics.drift.rise(0.5, float(statistics.gaussian.distances(features[None])[0]), 3)


def _vit() -> float:
    """Return the microseconds of a frame of ViT-B/16 with PyTorch, on the threads that are set."""
    tower = random_tower("ViT-B-16").eval()
    frame = torch.zeros(1, 3, 224, 224)
    with torch.inference_mode():
        return _micro(lambda: tower(frame), frames=1)


def _micro(call: Callable[[], object], frames: int = FRAMES) -> float:
    """Return the least mean microseconds of a call over some rounds."""
    call()
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(frames):
            call()
        times.append((time.perf_counter() - start) / frames)
    return 1e6 * min(times)
