"""Devices that fail when they are told to, and what a single session answers."""

import numpy as np

import runtime
from runtime.backends.ort.backend import OrtBackend
from runtime.errors import BackendError
from runtime.strategies.patch import PatchStrategy


def frames(count, size=16):
    return list(np.random.default_rng(3).integers(0, 256, (count, size, size, 3), dtype=np.uint8))


def answers(path, inputs, **kwargs):
    """Return what one session says to each frame under each task, one call at a time."""
    with runtime.Session.open(path, **kwargs) as session:
        found = {}
        for task in session.tasks:
            session.switch(task)
            found[task] = [session.predict(frame).logits for frame in inputs]
    return found


class Failing(OrtBackend):
    """A device that refuses tasks for good once it is told to; it counts frames it encodes."""

    made: list = []
    broken, encoded = False, 0

    def __init__(self, device, threads, *engines):
        super().__init__(device, threads, *engines)
        Failing.made.append(self)

    def open(self, graph, *, small=False, baked=None):
        engine = super().open(graph, small=small, baked=baked)
        run = engine.run

        def count(inputs):
            self.encoded += len(inputs.get("pixels", ()))
            return run(inputs)

        engine.run = count
        return engine


class FailingStrategy(PatchStrategy):
    """One whose device takes no new values and not the former ones either."""

    def switch(self, new):
        if self.backend.broken:
            self.close()
            raise BackendError("out of device memory")
        super().switch(new)
