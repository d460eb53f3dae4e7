"""Serve one candidate of a comparison in a process of its own: measure it on request.

`runtime.benchmark.compare.process` starts it. Each request is a line of JSON on stdin, with the
pixels of a frame behind it where it has a `shape`; each reply is a line of JSON on stdout.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from runtime import backends
from runtime.backends.names import index_of
from runtime.benchmark.latency import peak_rss, timed
from runtime.cuda.device import CudaDevice
from runtime.errors import BackendError, DataError, UdaError
from runtime.sessions.session import Session

Pixels = NDArray[np.uint8]
_WARM = 0.02
"""Seconds for which a turn warms up: the caches hold the data of the turn before."""


class Trial:
    """A candidate's session, with its tasks in memory."""

    def __init__(self, setup: dict[str, Any], frame: Pixels) -> None:
        """Open a session and make the calls that warm it up.

        Args:
            setup: Arguments of `Session.open`, and `tasks`, `batch` and `warmup`.
            frame: Frame (H, W, 3), uint8, to measure with.

        Raises:
            UdaError: The candidate cannot run here, or the tasks do not fit into the memory.
        """
        self._tasks, self._batch = setup["tasks"], setup["batch"]
        self._frames = [frame] * self._batch
        self._draw = np.random.default_rng(0)
        self._device = _device(setup["session"]["device"])
        self._free = 0 if self._device is None else self._device.free_bytes()
        start = time.perf_counter()
        self.session = Session.open(**setup["session"])
        opened = time.perf_counter()
        self.session.switch(self._tasks[0])
        switched = time.perf_counter()
        self.session.predict(frame)
        marks = {
            "open": opened - start,
            "load_task": switched - opened,
            "first": time.perf_counter() - switched,
        }
        self._load()
        for _ in range(setup["warmup"]):
            self.session.predict(frame)
        self.opened = {
            "version": self.session.backend.version,
            "open_ms": {name: round(value * 1e3, 3) for name, value in marks.items()},
            "task_bytes": self.session.task_bytes,
        }

    def turn(self, calls: int, batches: int) -> dict[str, list[float]]:
        """Return the seconds of predictions of one frame, of batches, and of switches.

        Args:
            calls: Number of predictions, and of switches where there are several tasks.
            batches: Number of batches.
        """
        predict, batch = self._predict, self._predict_batch
        self.session.switch(self._tasks[0])
        self._warm_up(predict)
        singles = [timed(predict) for _ in range(calls)]
        if batches:
            self._warm_up(batch)
        return {
            "predict": singles,
            "batch": [timed(batch) for _ in range(batches)],
            "switch": [self._switch() for _ in range(calls if len(self._tasks) > 1 else 0)],
        }

    def answer(self, task: str, frame: Pixels) -> list[float]:
        """Return the logits of a task for a frame.

        Raises:
            UdaError: The frame cannot be used, or the engine failed.
        """
        logits: list[float] = self.session.predict(frame, task=task).logits.tolist()
        return logits

    def memory(self) -> dict[str, int | None]:
        """Return the largest resident memory of this process, and what it holds on the GPU."""
        taken = None
        if self._device is not None:
            taken = max(self._free - self._device.free_bytes(), 0)
        return {"peak_rss_bytes": peak_rss(), "device_bytes": taken}

    def close(self) -> None:
        """Close the session and the device. Safe to call more than once."""
        self.session.close()
        if self._device is not None:
            self._device.close()

    def _load(self) -> None:
        """Bring all tasks into memory.

        Raises:
            BackendError: The next one, if it is as large as the one before, does not fit.
        """
        loaded = self.session.task_bytes
        for number, task in enumerate(self._tasks[1:], 1):
            if loaded > (free := _free_memory()):
                raise BackendError(
                    f"only {number} of {len(self._tasks)} tasks fit into the free memory: another "
                    f"takes {loaded / 1e6:.0f} MB, {free / 1e6:.0f} MB are left; "
                    "compare fewer with --tasks N, or free some memory"
                )
            loaded = self.session.load(task)

    def _predict(self) -> None:
        self.session.predict(self._frames[0])

    def _predict_batch(self) -> None:
        self.session.predict_batch(self._frames)

    def _switch(self) -> float:
        others = [task for task in self._tasks if task != self.session.task]
        task = others[int(self._draw.integers(len(others)))]
        return timed(lambda: self.session.switch(task))

    @staticmethod
    def _warm_up(call: Callable[[], object]) -> None:
        end = time.perf_counter() + _WARM
        call()
        while time.perf_counter() < end:
            call()


def _device(name: str) -> CudaDevice | None:
    """Return the GPU of a name, to ask for its memory; None for the CPU."""
    if name == "cpu":
        return None
    with contextlib.suppress(BackendError):  # the session says better what is missing
        return CudaDevice(index_of(name) or 0)
    return None


def _free_memory() -> float:
    """Return the bytes of memory that are left on this machine, where it says so."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return math.inf


def main() -> None:
    """Answer requests until there are no more."""
    # What libraries print must not come between the replies.
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with contextlib.suppress(OSError):  # if memory runs out, this process goes, not its parent
        Path("/proc/self/oom_score_adj").write_text("1000")
    trial: list[Trial] = []
    requests = sys.stdin.buffer
    while line := requests.readline():
        request = json.loads(line)
        reply = _reply(trial, request, _frame(request.pop("shape"), requests))
        replies.write(json.dumps(reply).encode() + b"\n")
        replies.flush()


def _frame(shape: list[int] | None, requests: BinaryIO) -> Pixels:
    content = requests.read(math.prod(shape)) if shape else b""
    return np.frombuffer(content, np.uint8).reshape(shape or (0,))


def _reply(trial: list[Trial], request: dict[str, Any], frame: Pixels) -> dict[str, Any]:
    action = request.pop("do")
    try:
        if action == "open":
            trial.append(Trial(request, frame))
            return {**trial[0].opened, **trial[0].memory()}
        if action == "turn":
            return {**trial[0].turn(**request), **trial[0].memory()}
        return {"logits": trial[0].answer(**request, frame=frame)}
    except DataError as error:
        return {"error": str(error), "of_frame": True}
    except UdaError as error:
        unusable = action == "open" and _unusable(request["session"])
        return {"error": str(error), "of_backend": unusable}
    except MemoryError:
        return {"error": "there is not enough memory; compare fewer with --tasks N, or free some"}


def _unusable(session: dict[str, Any]) -> bool:
    """Return whether the backend itself cannot be used here, whatever the bundle and strategy."""
    try:
        backends.load(
            session["backend"],
            session["device"],
            session["threads"],
            Path(session["path"]),
            session["engines"],
        ).memory.close()
    except UdaError:
        return True
    return False
