"""Time what monitoring costs a session: statistics of a frame, and looks through the base."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import runtime
from benchmarks._models import CLASSES, Model
from runtime.benchmark.latency import summary, timed
from runtime.bundles.bundle import Bundle
from runtime.bundles.task import encode_task
from runtime.monitoring import statistics
from runtime.monitoring.fit import task_statistics

WATCHED, WARMUP = "watched-0", 20
IMAGES = 1024
"""Images that the statistics are of."""


def measure_watching(model: Model, backend: str, samples: int, device: str) -> dict[str, Any]:
    """Return the times of frames of a task without and with statistics, and of a look at the base.

    The two tasks are one, so that no switch is needed for what they compute alike; between them
    lies one switch, which is not timed.

    Args:
        model: Model on disk; its bundle gets the task `WATCHED`.
        backend: Backend of the session.
        samples: Frames of each kind.
        device: Device of the session.
    """
    add_watched(model)
    camera = np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), dtype=np.uint8)
    monitor = runtime.DriftMonitor(every=1)
    plain: list[float] = []
    watched: list[float] = []
    looks: list[float] = []
    with runtime.Session.open(model.bundle, backend=backend, device=device) as session:

        def watch() -> None:
            prediction = session.predict(camera)
            assert prediction.known is not None
            monitor.see(prediction)

        for number in range(samples + WARMUP):
            for task, call, times in (
                (model.tasks[0], partial(session.predict, camera), plain),
                (WATCHED, watch, watched),
                (model.tasks[0], partial(session.base_features, [camera]), looks),
            ):
                session.switch(task)
                session.predict(camera)  # so that the device has done with the switch
                seconds = timed(call)
                if number >= WARMUP:
                    times.append(seconds)
    ratio = float(np.median(np.array(watched) / np.array(plain)))
    return {
        "backend": backend,
        "frame": summary(plain),
        "watched": summary(watched),
        "ratio": ratio,
        "base_look": summary(looks),
    }


def add_watched(model: Model) -> None:
    """Put the first task into the bundle once more, with statistics of random features."""
    opened = Bundle.open(model.bundle)
    task, draw = opened.task(model.tasks[0], opened.layout()), np.random.default_rng(0)
    size = next(iter(task.head_tensors.values())).shape[-1]
    rows = draw.normal(size=(IMAGES, size)).astype(np.float32)
    found = task_statistics(rows, draw.integers(0, CLASSES, IMAGES), CLASSES)
    carrying = replace(
        task,
        info=replace(task.info, id=WATCHED),
        optional={**task.optional, statistics.MEMBER: found.document()},
        optional_tensors={**task.optional_tensors, **found.tensors()},
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "watched.safetensors"
        file.write_bytes(encode_task(carrying))
        runtime.install(model.bundle, file)
