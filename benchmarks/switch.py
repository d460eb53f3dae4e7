"""What a switch costs: against a bare NumPy scatter, and against opening a session instead.

    python -m benchmarks.switch [--samples 300] [--json FILE]

Full-size ViT-B/16 and RN50 with random weights, residuals of 0.1 % and 0.5 %, two CPU threads, all
in one interleaved run. The bare scatter is the least that NumPy can do: write the old task's base
values, then the new task's values, at ready-made 64-bit indices, in an array of the same size.
"""

from __future__ import annotations

import itertools
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks._models import make_model
from runtime.bench import machine, summary, timed
from runtime.bundle import Bundle
from runtime.console import table, write_json
from runtime.session import Session

DENSITIES = (0.001, 0.005)


class Bare:
    """The reference: one flat array, ready-made indices."""

    def __init__(self, bundle: Bundle, tasks: list[str]) -> None:
        weights = bundle.weights()
        views = weights.views()
        starts = np.cumsum([0, *(view.size for view in views.values())])
        offsets = dict(zip(views, starts.tolist(), strict=False))
        self.flat: NDArray[np.float32] = np.concatenate([v.reshape(-1) for v in views.values()])
        self.patches = {}
        for task in tasks:
            patch = bundle.task(task, weights.layout).patch
            names = sorted(patch, key=offsets.__getitem__)
            indices = np.concatenate([patch[n].indices + np.intp(offsets[n]) for n in names])
            values = np.concatenate([patch[n].values for n in names])
            self.patches[task] = (indices, values, self.flat[indices])

    def switch(self, old: str, new: str) -> None:
        indices, _, undo = self.patches[old]
        self.flat[indices] = undo
        indices, values, _ = self.patches[new]
        self.flat[indices] = values


def measure(name: str, folder: Path, samples: int) -> list[dict[str, Any]]:
    model = make_model(name, folder, DENSITIES, 2)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    rows = []

    def open_baked() -> None:
        onnxruntime.InferenceSession(str(model.baked), options, providers=["CPUExecutionProvider"])

    with Session.open(model.bundle, threads=2, blocked=False) as session:
        entries = session.bundle.manifest.tasks
        pairs = [[e.id for e in entries[i : i + 2]] for i in range(0, 2 * len(DENSITIES), 2)]
        for density, pair in zip(DENSITIES, pairs, strict=True):
            for task in pair:
                session.switch(task)
            bare = Bare(session.bundle, pair)
            bare.switch(pair[0], pair[1])
            times: dict[str, list[float]] = {"switch": [], "bare": [], "open": []}
            state = itertools.cycle([(pair[1], pair[0]), (pair[0], pair[1])])
            every = max(1, samples // 10)
            for i in range(samples):
                if i % every == 0:
                    times["open"].append(timed(open_baked))
                    for _ in range(2):  # the opening emptied the caches
                        old, new = next(state)
                        session.switch(new)
                        bare.switch(old, new)
                old, new = next(state)
                sides = {
                    "switch": partial(session.switch, new),
                    "bare": partial(bare.switch, old, new),
                }
                for side in sorted(sides, reverse=i % 4 < 2):
                    times[side].append(timed(sides[side]))
            numbers = {key: summary(value) for key, value in times.items()}
            changed = int(np.mean([e.changed for e in entries if e.id in pair]))
            rows.append(
                {
                    "model": name,
                    "density": density,
                    "changed": changed,
                    **numbers,
                    "switch_over_bare": numbers["switch"]["p50"] / numbers["bare"]["p50"],
                    "open_over_switch": numbers["open"]["p50"] / numbers["switch"]["p50"],
                    "p99_over_p50": numbers["switch"]["p99"] / numbers["switch"]["p50"],
                    "bare_p99_over_p50": numbers["bare"]["p99"] / numbers["bare"]["p50"],
                }
            )
        rng = np.random.default_rng(0)
        for _ in range(1000):
            session.switch(str(rng.choice(session.tasks)))
        restored = session.base_sha256() == session.bundle.manifest.tensors.sha256
        for row in rows:
            row["base_restored_after_1000"] = restored
    return rows


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), default=Path("artifacts/benchmarks"))
@click.option("--samples", type=click.IntRange(min=20), default=300, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(folder: Path, samples: int, json_file: Path | None) -> None:
    """Measure switching at full size."""
    rows = [row for name in ("ViT-B-16", "RN50") for row in measure(name, folder, samples)]
    header = (
        *("model", "density", "changed", "switch p50", "p99", "bare p50", "bare p99"),
        *("/ bare", "p99/p50", "open p50", "open/switch", "base restored"),
    )
    click.echo(
        table(
            header,
            [
                [
                    r["model"],
                    f"{r['density']:.1%}",
                    f"{r['changed']:,}",
                    *(f"{r[k][p]:.3f}" for k in ("switch", "bare") for p in ("p50", "p99")),
                    f"{r['switch_over_bare']:.2f} x",
                    f"{r['p99_over_p50']:.2f}",
                    f"{r['open']['p50']:.0f}",
                    f"{r['open_over_switch']:.0f} x",
                    "bit for bit" if r["base_restored_after_1000"] else "NO",
                ]
                for r in rows
            ],
        )
    )
    click.echo("\nmilliseconds; a switch restores the old task's entries and writes the new one's")
    click.echo("targets: at most 1.5 x bare, p99 at most 2 x p50, 100 x faster than opening")
    if json_file:
        write_json(json_file, {"rows": rows, "samples": samples, "machine": machine()})


if __name__ == "__main__":
    main()
