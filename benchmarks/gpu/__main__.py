"""What a GPU makes of it: sessions against PyTorch, baked engines and the physical bound.

    python -m benchmarks.gpu [--model ViT-B-16] [--batch 1] [--json FILE]

Full-size models with random weights and 65 classes, fp16, 224 x 224 pixels, host to host. All sides
of a row run in turns. The bound is the larger of the work at the speed that products of large
matrices reach here, and reading the weights once at the speed of a large copy. A side that cannot
run is named with the reason, never replaced.

A switch is timed twice: what the caller waits for, and until the device is done with it (target:
0.2 ms at 0.5 % of ViT-B/16). Camera frames are resized on the GPU. Memory per task is what the
driver says is gone after loading tasks, divided by their number.

`--device cpu` tries the benchmark itself out on a machine without a GPU; its numbers mean nothing,
and there is no bound.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from benchmarks.gpu.peers import GMACS, Infer, Roofline, adapted, infer, parity, roofline
from benchmarks.gpu.tables import show
from benchmarks._models import Model, make_model
from benchmarks.gpu.needs import unseen
from runtime.benchmark.latency import machine, summary, timed
from runtime.console import write_json
from runtime.errors import UdaError
from runtime.models import Precision
from runtime.sessions.session import Session

DENSITY, TASKS = 0.005, 24
FORMS = {
    "ort session": ("ort", "patch"),
    "ort baked": ("ort", "engines"),
    "trt session": ("trt", "patch"),
    "trt baked": ("trt", "engines"),
}
"""Backend and strategy of our own sides."""
TARGET = 0.2
"""Milliseconds of a switch."""
WARMUP = 20
"""Runs of each kind before those that count."""


def sides(
    stack: ExitStack, name: str, models: Mapping[str, Model], device: str
) -> Iterator[tuple[str, Infer | str]]:
    """Yield each side with what runs it, or with the reason why it does not run here."""
    dtype = torch.float32 if device == "cpu" else torch.float16
    eager = adapted(name, DENSITY, dtype, device)
    yield "PyTorch eager", infer(eager, device)
    try:
        compiled = infer(torch.compile(eager, mode="reduce-overhead"), device)
        compiled(np.zeros((1, 224, 224, 3), np.uint8))
        yield "torch.compile", compiled
    except Exception as error:  # it wants a compiler, Triton and much else
        yield "torch.compile", _reason(error)
    for label, (backend, strategy) in FORMS.items():
        model = models[strategy]
        try:
            session = stack.enter_context(
                Session.open(model.bundle, backend=backend, device=device, strategy=strategy)
            )
            session.switch(model.tasks[0])
            yield label, session.infer
        except UdaError as error:
            yield label, _reason(error)


def measure_frames(
    name: str,
    models: Mapping[str, Model],
    batches: tuple[int, ...],
    samples: int,
    device: str,
    roof: Roofline | None,
) -> list[dict[str, Any]]:
    """Return latency and throughput of every side at every batch size."""
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        found = list(sides(stack, name, models, device))
        running = {label: run for label, run in found if not isinstance(run, str)}
        rows += [{"side": label, "reason": run} for label, run in found if isinstance(run, str)]
        whole = adapted(name, DENSITY, torch.float32, "cpu")
        parameters, exact = sum(p.numel() for p in whole.parameters()), infer(whole, "cpu")
        draw = np.random.default_rng(0)
        for batch in batches:
            pixels = draw.integers(0, 256, (batch, 224, 224, 3), dtype=np.uint8)
            want = exact(pixels)
            times: dict[str, list[float]] = {label: [] for label in running}
            for number in range(samples + WARMUP):
                for label, run in running.items():
                    seconds = timed(partial(run, pixels))
                    if number >= WARMUP:
                        times[label].append(seconds)
            for label, run in running.items():
                latency = summary(times[label])
                rows.append(
                    {
                        "side": label,
                        "batch": batch,
                        **latency,
                        "images_per_second": 1e3 * batch / latency["mean"],
                        "bound_ms": roof.bound(name, parameters, batch) if roof else None,
                        **parity(run(pixels), want),
                    }
                )
    return rows


def measure_switches(model: Model, backend: str, samples: int, device: str) -> dict[str, Any]:
    """Return what switches between resident tasks and camera frames cost, and what a task takes."""
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
    return {
        "backend": backend,
        "entries": entries,
        "called": summary(called),
        "done": summary(done),
        "camera": summary(stay),
        "camera_and_switch": summary(change),
        "target_ms": TARGET,
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


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), default=Path("artifacts/benchmarks"))
@click.option("--model", "names", multiple=True, type=click.Choice(sorted(GMACS)))
@click.option("--batch", "batches", multiple=True, type=click.IntRange(1), default=(1, 8, 32))
@click.option("--samples", type=click.IntRange(min=2), default=1024, show_default=True)
@click.option("--device", default="cuda", show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(
    folder: Path,
    names: tuple[str, ...],
    batches: tuple[int, ...],
    samples: int,
    device: str,
    json_file: Path | None,
) -> None:
    """Measure frames, switches and engines on a GPU."""
    if device != "cpu" and not torch.cuda.is_available():
        why = unseen(torch.__version__, torch.version.cuda)
        raise click.ClickException(f"{why}; or try the benchmark itself out with --device cpu")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    roof, gpu = None, device
    document: dict[str, Any] = {"machine": machine(), "gpu": gpu}
    if device != "cpu":
        roof, gpu = roofline(device), torch.cuda.get_device_name(device)
        click.echo(f"{gpu}: {roof.flops / 1e12:.1f} TFLOP/s, {roof.bandwidth / 1e9:.0f} GB/s\n")
        document |= {"gpu": gpu, "roofline": vars(roof)}
    precision: Precision = "fp32" if device == "cpu" else "fp16"
    for name in names or tuple(GMACS):
        models = {
            form: make_model(name, folder / place, (DENSITY,), tasks, precision, baked=False)
            for form, place, tasks in (("patch", "gpu", TASKS), ("engines", "gpu-one", 1))
        }
        engines: list[dict[str, Any]] = []
        switches: list[dict[str, Any]] = []
        document[name] = {"engines": engines, "switches": switches, "frames": []}
        for label, (backend, strategy) in FORMS.items():
            with _reasons(engines, label):
                engines.append(measure_engines(models, label, device))
                if strategy == "patch":
                    switches.append(measure_switches(models["patch"], backend, samples, device))
            if json_file:  # what was measured stays, whatever happens to the next row
                write_json(json_file, document)
        frames = measure_frames(name, models, batches, samples, device, roof)
        document[name]["frames"] = frames
        if json_file:
            write_json(json_file, document)
        show(name, frames, switches, engines)


@contextmanager
def _reasons(rows: list[dict[str, Any]], label: str) -> Iterator[None]:
    try:
        yield
    except UdaError as error:
        rows.append({"side": label, "reason": _reason(error)})
    except subprocess.CalledProcessError as error:
        rows.append({"side": label, "reason": error.stderr.strip()[-500:]})


def _free(cuda: Any) -> int:
    return 0 if cuda is None else int(cuda.free_bytes())


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


if __name__ == "__main__":
    main()
