"""Compare sessions with bare runtimes and PyTorch: predictions, and opening.

    python -m benchmarks.latency [--samples 30] [--runs 3] [--json FILE] [--plot FILE]

Full-size models with random weights, 224 x 224 frames, two CPU threads. All sides do the same work
on the same frames, interleaved in one run; a ratio is the median over the turns, to bare ONNX
Runtime in float32. Each run opens everything anew: the table has the median of the runs and their
range. The bare peers run the same graph with constant weights, packed as they like, with neither
preprocessing nor class names around it; they cannot switch.

The bound is the processor's own: the multiplications of a frame at the rate of the largest matrix
product that PyTorch does in that precision, measured in the same run.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from benchmarks import _sides
from benchmarks._energy import Energy
from benchmarks._models import Model, make_model
from runtime.benchmark.latency import machine, summary, timed
from runtime.console import table, write_json
from runtime.errors import UdaError
from runtime.models import Precision
from runtime.sessions.session import Session

THREADS = 2
TARGETS = {
    ("ViT-B-16", 1, "fp32", "session ort"): 1.05,
    ("RN50", 1, "fp32", "session ort"): 1.08,
    ("ViT-B-16", 1, "fp32", "session openvino"): 0.9,
    ("ViT-B-16", 1, "bf16", "session openvino"): 0.6,
}
OPEN_TARGETS = {"second start": 0.6, "full verification": 0.9}
GIGA = {"ViT-B-16": 17.56, "ViT-B-32": 4.41, "RN50": 5.42}
"""Multiplications and additions of a 224 x 224 frame, 10^9 of each."""


def open_sides(
    stack: ExitStack, model: Model, name: str, precision: Precision, reference: Model
) -> tuple[dict[str, _sides.Predict], dict[str, str]]:
    """Open every side; return those that run here, and why others do not."""
    ready: dict[str, _sides.Predict] = {}
    left_out: dict[str, str] = {}
    openers = {
        _sides.BARE: partial(_sides.bare_onnxruntime, reference.baked, THREADS),
        "OpenVINO, bare": partial(_sides.bare_openvino, model.baked, THREADS, precision),
        "PyTorch, eager": partial(_sides.pytorch, name, precision, False),
        "PyTorch, compiled": partial(_sides.pytorch, name, precision, True),
    }
    for backend in ("ort", "openvino"):
        try:
            opened = stack.enter_context(_sides.session(backend, model, THREADS))
        except UdaError as error:
            left_out[f"session {backend}"] = str(error)
            continue
        ready[f"session {backend}"] = opened
    return ready | {side: opener() for side, opener in openers.items()}, left_out


def measure(
    name: str, precision: Precision, batches: tuple[int, ...], samples: int, folder: Path
) -> list[dict[str, Any]]:
    """Time all sides of a model, interleaved; return a row for each side and batch."""
    model = make_model(name, folder, precision=precision)
    reference = make_model(name, folder)
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        ready, left_out = open_sides(stack, model, name, precision, reference)
        for batch in batches:
            shape = (batch, 224, 224, 3)
            frames = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
            bound = 2 * GIGA[name] * batch / _gigaflops(precision) if name in GIGA else None
            for _ in range(2):
                logits = {side: predict(frames) for side, predict in ready.items()}
            times: dict[str, list[float]] = {side: [] for side in ready}
            energies: dict[str, list[float]] = {side: [] for side in ready}
            draw = np.random.default_rng(1)
            for _ in range(max(4, samples // batch)):
                for side in draw.permutation(list(ready)).tolist():
                    with Energy() as energy:
                        times[side].append(timed(lambda: ready[side](frames)))  # noqa: B023
                    energies[side].append(energy.joules)
            bare = np.array(times[_sides.BARE])
            for side, taken in times.items():
                rows.append(
                    {
                        "model": name,
                        "precision": precision,
                        "batch": batch,
                        "side": side,
                        "ms": summary(taken),
                        "ratio": float(np.median(np.array(taken) / bare)),
                        "target": TARGETS.get((name, batch, precision, side)),
                        "bound_ms": None if bound is None else 1e3 * bound,
                        "joules": _known_median(energies[side]),
                        "difference": float(np.abs(logits[side] - logits[_sides.BARE]).max())
                        if not side.startswith("PyTorch")
                        else None,
                        "spread": float(logits[_sides.BARE].std()),
                    }
                )
        rows += [
            {"model": name, "precision": precision, "side": side, "left_out": reason}
            for side, reason in left_out.items()
        ]
    return rows


def measure_open(name: str, samples: int, folder: Path) -> list[dict[str, Any]]:
    """Time opening and the first prediction, against a bare session on the baked graph."""
    model = make_model(name, folder)
    frame = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8)

    def ours(**settings: Any) -> Session:
        session = Session.open(model.bundle, threads=THREADS, **settings)
        session.switch(model.tasks[0])
        session.predict(frame[0])
        return session

    def bare() -> _sides.Predict:
        predict = _sides.bare_onnxruntime(model.baked, THREADS)
        predict(frame)
        return predict

    sides: dict[str, Callable[[], Any]] = {
        "second start": ours,
        "full verification": partial(ours, verify="full"),
        "second start, openvino": partial(ours, backend="openvino"),
        _sides.BARE: bare,
    }
    if name.startswith("RN"):
        del sides["second start, openvino"]
    times: dict[str, list[float]] = {side: [] for side in sides}
    draw = np.random.default_rng(1)
    for turn in range(1 + max(4, samples // 3)):
        for side in draw.permutation(list(sides)).tolist():
            ours(verify="full").close()  # leaves the stamp that a second start needs
            opened: list[Any] = []  # so that closing is not timed
            taken = timed(lambda: opened.append(sides[side]()))  # noqa: B023
            if isinstance(opened[0], Session):
                opened[0].close()
            if turn:  # the first reads from the disk
                times[side].append(taken)
    peer = np.array(times[_sides.BARE])
    return [
        {
            "model": name,
            "precision": "fp32",
            "batch": "open",
            "side": side,
            "ms": summary(taken),
            "ratio": float(np.median(np.array(taken) / peer)),
            "target": OPEN_TARGETS.get(side) if name == "ViT-B-16" else None,
        }
        for side, taken in times.items()
    ]


def _gigaflops(precision: Precision) -> float:
    """Return the rate of this processor's largest matrix product, multiplications and additions."""
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(2048, 2048).to(kind) for _ in range(2))
    with torch.inference_mode():
        seconds = min(timed(lambda: a @ b) for _ in range(5))
    return 2 * 2048**3 / seconds / 1e9


def _known_median(values: list[float]) -> float | None:
    return None if np.isnan(values).any() else float(np.median(values))


def over_runs(runs: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return each row with the median of its ratio over the runs, and the range."""
    merged = []
    for same in zip(*runs, strict=True):
        row = dict(same[0])
        if "ratio" in row:
            ratios = [each["ratio"] for each in same]
            medians = [each["ms"]["p50"] for each in same]
            row |= {"ratio": float(np.median(ratios)), "ratios": ratios, "p50s": medians}
        merged.append(row)
    return merged


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), default=Path("artifacts/benchmarks"))
@click.option("--model", "names", multiple=True, default=tuple(GIGA), show_default=True)
@click.option("--precision", "precisions", multiple=True, default=("fp32", "bf16"))
@click.option("--batch", "batches", multiple=True, type=click.IntRange(1), default=(1, 8))
@click.option("--samples", type=click.IntRange(min=4), default=30, show_default=True)
@click.option("--runs", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path))
@click.option("--plot", "plot_file", type=click.Path(path_type=Path))
def main(
    folder: Path,
    names: tuple[str, ...],
    precisions: tuple[Precision, ...],
    batches: tuple[int, ...],
    samples: int,
    runs: int,
    json_file: Path | None,
    plot_file: Path | None,
) -> None:
    """Measure predictions, and opening with the first prediction, at full size."""
    torch.set_num_threads(THREADS)
    found = []
    for number in range(runs):
        rows: list[dict[str, Any]] = []
        for name in names:
            for precision in precisions:
                rows += measure(name, precision, batches, samples, folder)
            rows += measure_open(name, samples, folder)
        found.append(rows)
        click.echo(f"run {number + 1} of {runs} done", err=True)
    merged = over_runs(found)
    shown = [_row(row) for row in merged if "ratio" in row]
    header = ("", "side", "p50", "range", "ratio", "range", "target", "bound", "J", "difference")
    click.echo(table(header, shown))
    for row in merged:
        if "left_out" in row:
            click.echo(f"{row['model']} {row['precision']}, {row['side']}: {row['left_out']}")
    click.echo(f"\nmilliseconds, {THREADS} threads; median of {runs} runs, and their range")
    if json_file:
        write_json(json_file, {"rows": merged, "threads": THREADS, "machine": machine()})
    if plot_file:
        from benchmarks._latency_plot import draw

        draw(merged, plot_file)


def _row(row: dict[str, Any]) -> list[str]:
    what = "open + first" if row["batch"] == "open" else f"batch {row['batch']}"

    def shown(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    return [
        f"{row['model']} {row['precision']} {what}",
        row["side"],
        f"{float(np.median(row['p50s'])):.1f}",
        f"{min(row['p50s']):.1f}-{max(row['p50s']):.1f}",
        f"{row['ratio']:.3f} x",
        f"{min(row['ratios']):.3f}-{max(row['ratios']):.3f}",
        shown(row["target"], ".2f"),
        shown(row.get("bound_ms"), ".1f"),
        shown(row.get("joules"), ".2f"),
        shown(row.get("difference"), ".1e"),
    ]


if __name__ == "__main__":
    main()
