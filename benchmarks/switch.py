"""Compare a switch with a bare NumPy scatter, a lower bound, and opening a session instead.

    python -m benchmarks.switch [--samples 300] [--json FILE]

Full-size ViT-B/16 and RN50 with random weights, residuals of 0.1 % and 0.5 %, two CPU threads, all
in one interleaved run. The bare scatter is the least that NumPy can do: write the old task's base
values, then the new task's values, at ready-made 64-bit indices, in an array of the same size.

The bound is what must move, at the speeds that this machine shows in the same run: once through the
old task's gaps and base values and the new task's gaps and values (6 bytes an entry), at the speed
of a large copy; and every 64-byte line that either task changes read and written once, at the speed
of writing one value into each of as many lines of the same array, evenly spaced, which needs no
indices and meets no line twice.

Under load: another process copies 64 MB back and forth without pause. Allocated: the most that
Python and NumPy allocate during a switch. Longer than most files: the references must do the same
work in the same run.
"""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks._models import make_model
from benchmarks.overhead import allocated
from runtime.benchmark.latency import machine, summary, timed
from runtime.bundles.bundle import Bundle
from runtime.console import bytes_text, table, write_json
from runtime.sessions.session import Session

DENSITIES = (0.001, 0.005)
GAP, LINE = 2, 64
"""Bytes of an entry's gap in memory, and of a cache line."""
_LOAD = """
import numpy
a, b = (numpy.ones(1 << 24, numpy.float32) for _ in range(2))
while True:
    a[...] = b
    b[...] = a
"""


class Bare:
    """The reference: one flat array, ready-made indices."""

    def __init__(self, bundle: Bundle, tasks: Sequence[str]) -> None:
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


class Bound:
    """The bytes that a switch between two tasks must move, and the time to move as many."""

    def __init__(self, bare: Bare) -> None:
        patched = [indices for indices, _, _ in bare.patches.values()]
        lines = [np.unique(where * bare.flat.itemsize // LINE) for where in patched]
        self.stream = sum(where.size * (GAP + bare.flat.itemsize) for where in patched)
        self.lines = np.union1d(*lines).size
        spacing = bare.flat.size // self.lines
        self._lines = bare.flat[: self.lines * spacing].reshape(self.lines, spacing)[:, 0]
        self._values = self._lines.copy()
        self._source = np.ones(1 << 24, np.float32)
        self._target = np.ones_like(self._source)
        self.copied = 2 * self._source.nbytes
        """Bytes that a copy moves."""

    def write_lines(self) -> None:
        self._lines[...] = self._values

    def copy(self) -> None:
        self._target[...] = self._source

    def milliseconds(self, lines: float, copy: float) -> float:
        """Return the bound from the medians of `write_lines` and `copy`."""
        # A copy moves each byte twice, a stream is only read.
        return lines + copy * self.stream / self.copied


@contextlib.contextmanager
def load() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", _LOAD])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def measure(name: str, folder: Path, samples: int) -> list[dict[str, Any]]:
    """Measure one model: a row for each density."""
    model = make_model(name, folder, DENSITIES, 2)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2

    def open_baked() -> None:
        onnxruntime.InferenceSession(str(model.baked), options, providers=["CPUExecutionProvider"])

    with Session.open(model.bundle, threads=2, blocked=False) as session:
        entries = session.bundle.manifest.tasks
        rows = []
        for number, density in enumerate(DENSITIES):
            first, second = entries[2 * number : 2 * number + 2]
            changed = int(np.mean([first.changed, second.changed]))
            numbers = _pair(session, (first.id, second.id), open_baked, samples)
            rows.append({"model": name, "density": density, "changed": changed, **numbers})
        rng = np.random.default_rng(0)
        for _ in range(1000):
            session.switch(str(rng.choice(session.tasks)))
        restored = session.base_sha256() == session.bundle.manifest.tensors.sha256
    return [row | {"base_restored_after_1000": restored} for row in rows]


def _pair(
    session: Session, pair: tuple[str, str], open_baked: Callable[[], None], samples: int
) -> dict[str, Any]:
    """Measure switches between two tasks, in turn with the references."""
    for task in pair:
        session.switch(task)
    bare = Bare(session.bundle, pair)
    bare.switch(*pair)
    bound = Bound(bare)
    keys = ("switch", "bare", "lines", "copy", "open", "loaded", "bare_loaded")
    times: dict[str, list[float]] = {key: [] for key in keys}
    turns = itertools.cycle([(pair[1], pair[0]), pair])
    every = max(1, samples // 10)
    for i in range(samples):
        if i % every == 0:
            times["open"].append(timed(open_baked))
            times["copy"] += [timed(bound.copy) for _ in range(3)]
            for _ in range(2):  # the opening emptied the caches
                old, new = next(turns)
                session.switch(new)
                bare.switch(old, new)
        old, new = next(turns)
        sides = {
            "switch": partial(session.switch, new),
            "bare": partial(bare.switch, old, new),
            "lines": bound.write_lines,
        }
        for side in sorted(sides, reverse=i % 4 < 2):
            times[side].append(timed(sides[side]))
    with load():
        for _ in range(samples):
            old, new = next(turns)
            times["loaded"].append(timed(partial(session.switch, new)))
            times["bare_loaded"].append(timed(partial(bare.switch, old, new)))
    old, new = next(turns)
    room = allocated(lambda: (session.switch(old), session.switch(new)))
    numbers = {key: summary(value) for key, value in times.items()}
    return numbers | _ratios(numbers) | _moved(numbers, bound) | {"allocated": room}


def _ratios(numbers: dict[str, dict[str, float]]) -> dict[str, float]:
    tails = {"": "switch", "bare_": "bare", "loaded_": "loaded", "bare_loaded_": "bare_loaded"}
    return {
        "switch_over_bare": numbers["switch"]["p50"] / numbers["bare"]["p50"],
        "open_over_switch": numbers["open"]["p50"] / numbers["switch"]["p50"],
        **{f"{k}p99_over_p50": numbers[v]["p99"] / numbers[v]["p50"] for k, v in tails.items()},
    }


def _moved(numbers: dict[str, dict[str, float]], bound: Bound) -> dict[str, float]:
    """Return what a switch must move, and the time that this takes at the measured speeds."""
    lines = 2 * LINE * bound.lines
    least = bound.milliseconds(numbers["lines"]["p50"], numbers["copy"]["p50"])
    return {
        "stream_bytes": bound.stream,
        "lines": bound.lines,
        "line_bytes": lines,
        "copy_gb_per_second": bound.copied / numbers["copy"]["p50"] / 1e6,
        "line_gb_per_second": lines / numbers["lines"]["p50"] / 1e6,
        "bound_ms": least,
        "switch_over_bound": numbers["switch"]["p50"] / least,
    }


def _switches(rows: list[dict[str, Any]]) -> tuple[tuple[str, ...], list[list[str]]]:
    header = (
        *("", "changed", "switch p50", "p99", "bare p50", "p99", "/ bare", "p99/p50", "loaded"),
        *("bare", "open p50", "open/switch", "allocated", "base restored"),
    )
    return header, [
        [
            f"{r['model']} {r['density']:.1%}",
            f"{r['changed']:,}",
            *(f"{r[k][p]:.3f}" for k in ("switch", "bare") for p in ("p50", "p99")),
            f"{r['switch_over_bare']:.2f} x",
            f"{r['p99_over_p50']:.2f}",
            f"{r['loaded_p99_over_p50']:.2f}",
            f"{r['bare_loaded_p99_over_p50']:.2f}",
            f"{r['open']['p50']:.0f}",
            f"{r['open_over_switch']:.0f} x",
            bytes_text(r["allocated"]),
            "bit for bit" if r["base_restored_after_1000"] else "NO",
        ]
        for r in rows
    ]


def _bounds(rows: list[dict[str, Any]]) -> tuple[tuple[str, ...], list[list[str]]]:
    header = (
        *("must move", "streams", "lines", "read + written", "copy", "evenly spaced lines"),
        *("bound, ms", "switch, ms", "switch / bound"),
    )
    return header, [
        [
            f"{r['model']} {r['density']:.1%}",
            bytes_text(r["stream_bytes"]),
            f"{r['lines']:,}",
            bytes_text(r["line_bytes"]),
            f"{r['copy_gb_per_second']:.1f} GB/s",
            f"{r['line_gb_per_second']:.1f} GB/s",
            f"{r['bound_ms']:.3f}",
            f"{r['switch']['p50']:.3f}",
            f"{r['switch_over_bound']:.2f} x",
        ]
        for r in rows
    ]


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), default=Path("artifacts/benchmarks"))
@click.option("--samples", type=click.IntRange(min=20), default=300, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(folder: Path, samples: int, json_file: Path | None) -> None:
    """Measure switching at full size."""
    rows = [row for name in ("ViT-B-16", "RN50") for row in measure(name, folder, samples)]
    click.echo(table(*_switches(rows)) + "\n\n" + table(*_bounds(rows)))
    click.echo("\nmilliseconds; a switch restores the old task's entries and writes the new one's")
    click.echo("targets: at most 1.5 x bare, p99 at most 2 x p50, 100 x faster than opening")
    click.echo("bound: the streams at the speed of a copy, the lines at that of evenly spaced ones")
    if json_file:
        write_json(json_file, {"rows": rows, "samples": samples, "machine": machine()})


if __name__ == "__main__":
    main()
