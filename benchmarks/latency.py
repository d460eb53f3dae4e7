"""Compare `Session.predict` with a bare ONNX Runtime call on the baked model.

    python -m benchmarks.latency [--samples 30] [--json FILE]

Full-size models with random weights, 224 x 224 frames, two CPU threads. Both sides do the same work
on the same frames, one after the other in one run; the ratio is the median over the pairs. The
baked model is the strongest peer there is: the same graph with constant weights, which ONNX Runtime
packs and lays out as it likes, with neither preprocessing nor class names around it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks._models import Model, make_model
from runtime.benchmark.latency import machine, summary, timed
from runtime.console import table, write_json
from runtime.sessions.session import Session

THREADS = 2
TARGETS = {("ViT-B-16", 1): 1.05, ("RN50", 1): 1.08}
OPEN_TARGET = 0.6


def open_baked(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def pairs(ours: Callable[[], object], theirs: Callable[[], object], samples: int) -> dict[str, Any]:
    """Time both, interleaved and in changing order, and return their summaries and the ratio."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(samples):
        for side in (0, 1) if number % 2 else (1, 0):
            times[side].append(timed((ours, theirs)[side]))
    ratios = np.array(times[0]) / np.array(times[1])
    return {
        "session": summary(times[0]),
        "bare": summary(times[1]),
        "ratio": float(np.median(ratios)),
        "ratio_of_minima": min(times[0]) / min(times[1]),
    }


def measure_predict(model: Model, name: str, batch: int, samples: int) -> dict[str, Any]:
    frames = np.random.default_rng(0).integers(0, 256, (batch, 224, 224, 3), dtype=np.uint8)
    baked = open_baked(model.baked)
    with Session.open(model.bundle, threads=THREADS) as session:
        session.switch(model.tasks[0])

        def ours() -> NDArray[np.float32]:
            return np.stack([p.logits for p in session.predict_batch(list(frames))])

        def theirs() -> NDArray[np.float32]:
            logits: NDArray[np.float32] = baked.run(["logits"], {"pixels": frames})[0]
            return logits

        difference = float(np.abs(ours() - theirs()).max())
        for _ in range(2):
            ours(), theirs()
        found = pairs(ours, theirs, samples)
    target = TARGETS.get((name, batch))
    return {"model": name, "batch": batch, "difference": difference, "target": target, **found}


def measure_open(model: Model, name: str, samples: int) -> dict[str, Any]:
    frame = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)

    def ours() -> None:
        with Session.open(model.bundle, threads=THREADS) as session:
            session.switch(model.tasks[0])
            session.predict(frame)

    def theirs() -> None:
        open_baked(model.baked).run(["logits"], {"pixels": frame[None]})

    ours(), theirs()  # so that both read from the page cache
    return {"model": name, "target": OPEN_TARGET, **pairs(ours, theirs, samples)}


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), default=Path("artifacts/benchmarks"))
@click.option("--model", "names", multiple=True, default=("ViT-B-16", "RN50"), show_default=True)
@click.option("--batch", "batches", multiple=True, type=click.IntRange(1), default=(1, 8))
@click.option("--samples", type=click.IntRange(min=4), default=30, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(
    folder: Path,
    names: tuple[str, ...],
    batches: tuple[int, ...],
    samples: int,
    json_file: Path | None,
) -> None:
    """Measure predictions, and opening with the first prediction, at full size."""
    predictions, opens = [], []
    for name in names:
        model = make_model(name, folder)
        for batch in batches:
            count = max(4, samples // batch)
            predictions.append(measure_predict(model, name, batch, count))
        opens.append(measure_open(model, name, max(4, samples // 6)))
    rows = [_row(f"{r['model']} batch {r['batch']}", r) for r in predictions]
    rows += [_row(f"{r['model']} open + first", r) for r in opens]
    header = ("", "session p50", "p90", "bare p50", "p90", "ratio", "of minima", "target", "n")
    click.echo(table(header, rows))
    click.echo(f"\nmilliseconds, {THREADS} threads; ratio: median over interleaved pairs")
    if json_file:
        document = {"predict": predictions, "open": opens, "threads": THREADS}
        write_json(json_file, {**document, "machine": machine()})


def _row(name: str, result: dict[str, Any]) -> list[str]:
    target = result["target"]
    return [
        name,
        *(f"{result[side][p]:.1f}" for side in ("session", "bare") for p in ("p50", "p90")),
        f"{result['ratio']:.3f} x",
        f"{result['ratio_of_minima']:.3f} x",
        "-" if target is None else f"{target:.2f} x",
        str(result["session"]["samples"]),
    ]


if __name__ == "__main__":
    main()
