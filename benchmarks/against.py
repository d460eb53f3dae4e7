"""Compare the cost of a switch and a prediction with another commit, interleaved in one run.

    git worktree add /tmp/other 549a19a
    python -m benchmarks.against /tmp/other [--bundle demo/demo.bundle] [--rounds 30] [--json FILE]

Each round starts a process for either tree, the first of them taking turns: it opens the bundle
with one thread, brings all tasks into memory, and takes medians of switches to the next task, of
switches to the current one, and of predictions. Reported is the median over the rounds, and the
ratio's median with its interquartile range, since the machine may be shared. Only what the public
API of both commits has is called.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from benchmarks.switches import commit
from runtime.benchmark.latency import machine
from runtime.console import table, write_json

TARGETS = {"switch": 1.02, "no-op": 1.02, "predict": 1.01}
_ROOT = Path(__file__).parent.parent
_WORK = """
import itertools, json, statistics, sys, time
import numpy as np
import runtime

bundle, strategy, switches, predictions = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
frame = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)

def median(call, count):
    times = []
    for number in range(count + count // 10):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1e6 * statistics.median(times[count // 10:])

with runtime.Session.open(bundle, threads=1, strategy=strategy) as session:
    for task in session.tasks:
        session.switch(task)
    others, current = itertools.cycle(session.tasks), session.tasks[0]
    found = {"switch": median(lambda: session.switch(next(others)), switches)}
    session.switch(current)
    found["no-op"] = median(lambda: session.switch(current), switches)
    found["predict"] = median(lambda: session.predict(frame), predictions)
print(json.dumps({"file": runtime.__file__, **found}))
"""


def one(tree: Path, bundle: Path, strategy: str, switches: int, predictions: int) -> dict[str, Any]:
    """Return the medians of one process, in microseconds."""
    numbers = [str(switches), str(predictions)]
    found = subprocess.run(
        [sys.executable, "-c", _WORK, str(bundle.resolve()), strategy, *numbers],
        env={**os.environ, "PYTHONPATH": str(tree)},
        cwd=tree,
        capture_output=True,
        text=True,
        check=True,
    )
    result: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
    if not Path(result["file"]).is_relative_to(tree):
        raise click.ClickException(f"measured {result['file']}, which is not in '{tree}'")
    return result


def compare(
    other: Path, bundle: Path, strategy: str, rounds: int, switches: int, predictions: int
) -> dict[str, dict[str, float]]:
    """Return, for each kind of call, both medians and their ratio."""
    times: dict[str, list[dict[str, Any]]] = {"this": [], "other": []}
    trees = [("this", _ROOT), ("other", other)]
    for _ in range(rounds):
        for name, tree in trees:
            times[name].append(one(tree, bundle, strategy, switches, predictions))
        trees.reverse()
    rows = {}
    for kind in TARGETS:
        mine, former = ([each[kind] for each in times[name]] for name in ("this", "other"))
        ratios = [a / b for a, b in zip(mine, former, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        rows[kind] = {
            "this_us": statistics.median(mine),
            "other_us": statistics.median(former),
            "ratio": middle,
            "ratio_q1": low,
            "ratio_q3": high,
            "target": TARGETS[kind],
        }
    return rows


@click.command()
@click.argument("other", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--bundle", type=click.Path(path_type=Path), default=Path("demo/demo.bundle"))
@click.option("--rounds", type=click.IntRange(min=2), default=30, show_default=True)
@click.option("--switches", type=click.IntRange(min=100), default=10_000, show_default=True)
@click.option("--predictions", type=click.IntRange(min=100), default=1500, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(
    other: Path,
    bundle: Path,
    rounds: int,
    switches: int,
    predictions: int,
    json_file: Path | None,
) -> None:
    """Compare this tree with another commit's."""
    if not bundle.exists():
        raise click.ClickException(f"'{bundle}' does not exist; run make demo, or pass --bundle")
    found = {
        strategy: compare(other.resolve(), bundle, strategy, rounds, switches, predictions)
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
