"""Compare the cost of a switch and a prediction with another commit, interleaved in one run.

    git worktree add /tmp/other 549a19a
    python -m benchmarks.against /tmp/other [--bundle demo/demo.bundle] [--rounds 100] [--json FILE]

A process of either tree opens the bundle with one thread and brings all tasks into memory. Then the
two take turns, some milliseconds each, at switches to the next task, at switches to the current
one, and at predictions: so what else the machine does meets both alike. New processes, with other
addresses, take over several times. Reported are the median times, and of the ratio of neighbouring
turns the median and the quartiles. Only what the public API of both commits has is called.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from benchmarks.switches import commit
from runtime.benchmark.latency import machine
from runtime.console import table, write_json

TARGETS = {"switch": 1.02, "no-op": 1.02, "predict": 1.02}
STARTS = 16
"""Pairs of processes."""
_ROOT = Path(__file__).parent.parent
_WORK = """
import itertools, json, sys, time
import numpy as np
import runtime

bundle, strategy = sys.argv[1:]
frame = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)

def microseconds(call, count):
    start = time.perf_counter()
    for _ in range(count):
        call()
    return (time.perf_counter() - start) / count * 1e6

with runtime.Session.open(bundle, threads=1, strategy=strategy) as session:
    for task in session.tasks:
        session.switch(task)
    others, current = itertools.cycle(session.tasks), session.tasks[0]
    print(runtime.__file__, flush=True)
    for _ in sys.stdin:
        found = [microseconds(lambda: session.switch(next(others)), 60)]
        session.switch(current)
        found.append(microseconds(lambda: session.switch(current), 400))
        found.append(microseconds(lambda: session.predict(frame), 8))
        print(json.dumps(found), flush=True)
"""


class Side:
    """A process that measures one tree when it is asked to."""

    def __init__(self, tree: Path, bundle: Path, strategy: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _WORK, str(bundle.resolve()), strategy],
            env={**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"},
            cwd=tree,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        package = self._line()
        if not Path(package).is_relative_to(tree):
            raise click.ClickException(f"measured {package!r}, which is not in '{tree}'")

    def __call__(self) -> list[float]:
        """Return microseconds per call of each kind."""
        assert self.process.stdin is not None
        print("again", file=self.process.stdin, flush=True)
        found: list[float] = json.loads(self._line())
        return found

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@contextlib.contextmanager
def side(tree: Path, bundle: Path, strategy: str) -> Iterator[Side]:
    """Start a process for a tree, and end it."""
    started = Side(tree, bundle, strategy)
    try:
        yield started
    finally:
        started.process.communicate()


def compare(
    other: Path, bundle: Path, strategy: str, rounds: int
) -> dict[str, dict[str, float | int]]:
    """Return, for each kind of call, both medians and their ratio."""
    mine: list[list[float]] = []
    theirs: list[list[float]] = []
    for _ in range(STARTS):
        with side(_ROOT, bundle, strategy) as this, side(other, bundle, strategy) as that:
            turns = [(this, mine), (that, theirs)]
            for _ in range(3):  # to warm up
                this(), that()
            for _ in range(rounds):
                for ask, times in turns:
                    times.append(ask())
                turns.reverse()
    rows: dict[str, dict[str, float | int]] = {}
    for place, (kind, target) in enumerate(TARGETS.items()):
        pairs = [(a[place], b[place]) for a, b in zip(mine, theirs, strict=True)]
        low, middle, high = statistics.quantiles([a / b for a, b in pairs], n=4)
        rows[kind] = {
            "this_us": statistics.median(a for a, _ in pairs),
            "other_us": statistics.median(b for _, b in pairs),
            "ratio": middle,
            "ratio_q1": low,
            "ratio_q3": high,
            "pairs": len(pairs),
            "target": target,
        }
    return rows


@click.command()
@click.argument("other", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--bundle", type=click.Path(path_type=Path), default=Path("demo/demo.bundle"))
@click.option("--rounds", type=click.IntRange(min=2), default=100, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(other: Path, bundle: Path, rounds: int, json_file: Path | None) -> None:
    """Compare this tree with another commit's."""
    if not bundle.exists():
        raise click.ClickException(f"'{bundle}' does not exist; run make demo, or pass --bundle")
    found = {
        strategy: compare(other.resolve(), bundle, strategy, rounds)
        for strategy in ("patch", "engines")
    }
    header = ("", "this, us", "other, us", "ratio", "quartiles", "target")
    lines = [
        [
            f"{strategy} {kind}",
            f"{row['this_us']:.2f}",
            f"{row['other_us']:.2f}",
            f"{row['ratio']:.3f} x",
            f"{row['ratio_q1']:.3f}-{row['ratio_q3']:.3f}",
            f"{row['target']:.2f} x",
        ]
        for strategy, rows in found.items()
        for kind, row in rows.items()
    ]
    click.echo(table(header, lines))
    if json_file is not None:
        write_json(json_file, {"commit": commit(), "machine": machine(), "against": found})


if __name__ == "__main__":
    main()
