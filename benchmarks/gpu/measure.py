"""Time frames, switches and engines on a GPU, or say why a side could not run."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks._models import Model
from benchmarks.gpu.peers import Infer, Roofline, adapted, infer, parity
from benchmarks.gpu.targets import switch_bound, switch_target
from runtime.benchmark.latency import summary, timed
from runtime.sessions.session import Session

DENSITY, TASKS = 0.005, 24
FORMS = {
    "ort session": ("ort", "patch"),
    "ort baked": ("ort", "engines"),
    "trt session": ("trt", "patch"),
    "trt baked": ("trt", "engines"),
}
"""Backend and strategy of our own sides."""
EAGER, COMPILED = "PyTorch eager", "torch.compile"
WARMUP = 20
"""Number of warm-up runs of each kind."""


def sessions(
    stack: ExitStack, models: Mapping[str, Model], device: str
) -> Iterator[tuple[str, Infer | str]]:
    """Yield each of our own sides with what runs it, or with the reason why it does not run."""
    for label, (backend, strategy) in FORMS.items():
        model = models[strategy]
        try:
            session = stack.enter_context(
                Session.open(model.bundle, backend=backend, device=device, strategy=strategy)
            )
            session.switch(model.tasks[0])
            yield label, session.infer
        except Exception as error:  # also what no GPU has shown us yet: the others still count
            yield label, reason(error)


def measure_frames(
    name: str,
    models: Mapping[str, Model],
    batches: tuple[int, ...],
    samples: int,
    device: str,
    roof: Roofline | None,
    compiled: bool = True,
) -> Iterator[dict[str, Any]]:
    """Yield latency and throughput of every side at every batch size, smallest first.

    A side that fails is named with the reason and left out from then on; the others go on.
    """
    dtype = torch.float32 if device == "cpu" else torch.float16
    whole = adapted(name, DENSITY, torch.float32, "cpu")
    parameters, exact = sum(p.numel() for p in whole.parameters()), infer(whole, "cpu")

    def rows(running: dict[str, Infer]) -> Iterator[dict[str, Any]]:
        draw = np.random.default_rng(0)
        for batch in sorted(batches):
            pixels = draw.integers(0, 256, (batch, 224, 224, 3), dtype=np.uint8)
            times, failed = interleaved(running, pixels, samples)
            for label, why in failed.items():
                del running[label]
                yield {"side": label, "batch": batch, "reason": why}
            want = exact(pixels)
            for label, run in running.items():
                latency = summary(times[label])
                yield {
                    "side": label,
                    "batch": batch,
                    **latency,
                    "images_per_second": 1e3 * batch / latency["mean"],
                    "bound_ms": roof.bound(name, parameters, batch) if roof else None,
                    **parity(run(pixels), want),
                }

    with ExitStack() as stack:
        eager = adapted(name, DENSITY, dtype, device)
        running = {EAGER: infer(eager, device)}
        for label, run in sessions(stack, models, device):
            if isinstance(run, str):
                yield {"side": label, "reason": run}
            else:
                running[label] = run
        yield from rows(running)
        if compiled:  # last: it takes minutes, for each batch size anew, and wants much else
            call = infer(torch.compile(eager, mode="reduce-overhead"), device)
            beside = rows({EAGER: infer(eager, device), COMPILED: call})
            yield from (row for row in beside if row["side"] == COMPILED)


def interleaved(
    running: Mapping[str, Infer], pixels: NDArray[np.uint8], samples: int
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Return the seconds of each side, one call each in turn, and why a side failed.

    Args:
        running: Sides by name.
        pixels: Batch of images (N, S, S, 3).
        samples: Calls of each side that count, after `WARMUP` that do not.
    """
    times: dict[str, list[float]] = {label: [] for label in running}
    failed: dict[str, str] = {}
    for number in range(samples + WARMUP):
        for label, run in running.items():
            if label in failed:
                continue
            try:
                seconds = timed(partial(run, pixels))
            except Exception as error:  # of PyTorch, CUDA or a backend: the others still count
                failed[label] = reason(error)
                continue
            if number >= WARMUP:
                times[label].append(seconds)
    return times, failed


def measure_switches(
    model: Model, backend: str, samples: int, device: str, roof: Roofline | None
) -> dict[str, Any]:
    """Return the times of switches and camera frames, and the memory of a task."""
    with Session.open(model.bundle, backend=backend, device=device) as session:
        cuda = getattr(session.backend.memory, "device", None)
        session.predict(np.zeros((480, 640, 3), np.uint8), model.tasks[0])
        before = _free(cuda)
        held = sum(session.load(task) for task in model.tasks[1:]) / (len(model.tasks) - 1)
        taken = (before - _free(cuda)) / (len(model.tasks) - 1)
        called, done = [], []
        for number in range(samples + WARMUP):
            if cuda is not None:
                cuda.synchronize()
            start = time.perf_counter()
            session.switch(model.tasks[number % len(model.tasks)])
            waited = time.perf_counter() - start
            if cuda is not None:
                cuda.synchronize()
            if number >= WARMUP:
                called.append(waited)
                done.append(time.perf_counter() - start)
        camera = np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), dtype=np.uint8)
        stay: list[float] = []
        change: list[float] = []
        for number in range(samples + WARMUP):
            task = model.tasks[number % len(model.tasks)]
            moved = timed(partial(session.predict, camera, task))
            stayed = timed(partial(session.predict, camera))
            if number >= WARMUP:
                change.append(moved)
                stay.append(stayed)
        sound = session.base_sha256() == session.bundle.manifest.tensors.sha256
        entries = session.bundle.entry(model.tasks[0]).changed
        parameters = sum(prod(spec.shape) for spec in session.layout.values())
        gpu = "" if cuda is None else cuda.name
    return {
        "backend": backend,
        "entries": entries,
        "called": summary(called),
        "done": summary(done),
        "camera": summary(stay),
        "camera_and_switch": summary(change),
        "target_ms": switch_target(gpu),
        "bound_ms": switch_bound(entries, parameters, roof.bandwidth) if roof else None,
        "base_restored": sound,
        "task_bytes": held,
        "device_bytes_per_task": taken,
    }


def measure_engines(models: Mapping[str, Model], label: str, device: str) -> dict[str, Any]:
    """Return the seconds of building engines, if the backend does, and of opening with a task."""
    build, (backend, strategy) = None, FORMS[label]
    model = models[strategy]
    if backend == "trt":
        command = [sys.executable, "-m", "runtime.cli", "build", str(model.bundle)]
        command += ["--profile", "server", "--strategy", strategy, "--device", device]
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, text=True)
        build = time.perf_counter() - start
    opened = []
    for _ in range(5):
        start = time.perf_counter()
        with Session.open(model.bundle, backend=backend, device=device, strategy=strategy) as it:
            it.switch(model.tasks[0])
            opened.append(time.perf_counter() - start)
    return {"side": label, "build_s": build, "first_s": opened[0], "open_s": min(opened[1:])}


def reason(error: Exception) -> str:
    """Return the first line of an error, shortened."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _free(cuda: Any) -> int:
    return 0 if cuda is None else int(cuda.free_bytes())
