"""Toy bundles whose tasks carry what routes frames to them: each has images of its own colour."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from runtime.bundles import bundle
from runtime.monitoring import routing, whitening
from runtime.monitoring.gaussian import unit
from tests.runtime.conftest import SIZE

COLOURS = [(230, 40, 40), (40, 230, 40), (40, 40, 230), (220, 220, 30), (30, 220, 220)]
"""Mean colours of the tasks' own images, in the order of the tasks."""
FOREIGN = (5, 5, 5)
"""One of no task."""


def pixels_of(colour, count, seed=0):
    """Return frames (N, S, S, 3) of about one colour."""
    rng = np.random.default_rng(seed)
    shades = np.array(colour) + rng.integers(-25, 26, (count, 3))
    noise = rng.integers(-20, 21, (count, SIZE, SIZE, 3))
    return (shades[:, None, None] + noise).clip(0, 255).astype(np.uint8)


def base_features(world, pixels):
    """Compute in NumPy what the untouched base says of frames."""
    mean = pixels.astype(np.float32).mean((1, 2))
    hidden = np.maximum(mean @ world.base["first.weight"] + world.base["first.bias"], 0)
    return hidden @ world.base["second.weight"]


def features_of(world, count=200, seed=0):
    """Return the base's features of each task's own images, at unit length."""
    return {
        task: unit(base_features(world, pixels_of(colour, count, seed)))
        for task, colour in zip(world.tasks, COLOURS, strict=False)
    }


def with_routing(world, tasks=None):
    """Write a toy bundle anew, with a whitening, and with routing for tasks; by default for all."""
    features = features_of(world)
    shared = whitening.fit([f[~routing.sampled(len(f))] for f in features.values()])
    for name in tasks or world.tasks:
        own = routing.fit(features[name], shared)
        world.tasks[name] = replace(
            world.tasks[name],
            optional={**world.tasks[name].optional, routing.MEMBER: own.document()},
            optional_tensors={**world.tasks[name].optional_tensors, **own.tensors()},
        )
    world.parts["tasks"] = list(world.tasks.values())
    bundle.write(world.path, **world.parts, optional={whitening.MEMBER: shared.encode()})
    return world
