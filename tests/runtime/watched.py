"""Toy bundles whose tasks carry statistics and calibrations."""

from dataclasses import replace

import numpy as np

from runtime.monitoring import confidence, statistics
from runtime.monitoring.confidence import Calibration
from runtime.monitoring.fit import task_statistics
from tests.runtime.conftest import SIZE
from tests.runtime.helpers import smuggle


def own_pixels(count=1000, seed=0):
    """Return pixels (N, S, S, 3) of the task's own images: reddish ones."""
    rng = np.random.default_rng(seed)
    colour = rng.integers((150, 20, 20), (250, 90, 90), (count, 3))[:, None, None]
    noise = rng.integers(-20, 20, (count, SIZE, SIZE, 3))
    return (colour + noise).clip(0, 255).astype(np.uint8)


def foreign_pixels(count=50, seed=1):
    """Return pixels of other images: the channels are swapped."""
    return np.ascontiguousarray(own_pixels(count, seed)[..., ::-1])


def statistics_of(world, task, seed=0):
    """Return the statistics of a toy task's own images."""
    pixels = own_pixels(seed=seed)
    classes = len(world.tasks[task].info.classes)
    predicted = world.logits(task, pixels).argmax(-1)
    return task_statistics(world.features(task, pixels), predicted, classes)


def watched(task, found=None, calibration=None):
    """Return a task that carries statistics and a calibration."""
    optional, tensors = dict(task.optional), dict(task.optional_tensors)
    if found is not None:
        optional[statistics.MEMBER] = found.document()
        tensors |= found.tensors()
    if calibration is not None:
        optional[confidence.MEMBER] = calibration.document()
    return replace(task, optional=optional, optional_tensors=tensors)


def watch(world, calibration=None, tasks=None):
    """Let tasks of a toy bundle carry statistics and a calibration; all of them by default."""
    for name in tasks or world.tasks:
        world.tasks[name] = watched(world.tasks[name], statistics_of(world, name), calibration)
        smuggle(world.path, world.tasks[name])
    return world


CALIBRATION = Calibration(2.0, 64)
