"""Fuzz every reader of untrusted files: whatever a file holds, the only error is a `UdaError`.

    python -m benchmarks.fuzz [--loads 100000 | --minutes 20] [--seed N] [--json FILE]

Damages files of every kind at random: their bytes and, where a format has a digest, the content
under a digest that is right. Each is read in a forked worker (`tests/fuzz/workers.py`), which
bounds its time and its memory. Exits with 1 if a reader raises anything else, ends its process, or
takes more than 2 s or 3 times its file or its base; the file is kept in `artifacts/fuzz`. The same
seed damages the same files.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from benchmarks.switches import commit
from runtime.benchmark.latency import machine
from runtime.console import echo, table, write_json

KEPT = Path("artifacts/fuzz")


@click.command()
@click.option("--loads", type=click.IntRange(min=1), default=100_000, show_default=True)
@click.option("--minutes", type=click.FloatRange(min=0.01), help="Time to fuzz; replaces --loads.")
@click.option("--only", help="Fuzz only readers whose names contain this.")
@click.option("--seed", type=int, help="Seed of the damage; default: another one each time.")
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(
    loads: int, minutes: float | None, only: str | None, seed: int | None, json_file: Path | None
) -> None:
    """Damage files at random; fail if a reader neither accepts nor refuses one."""
    from tests.fuzz import of_monitoring, of_runtime, of_training
    from tests.fuzz.workers import fuzz

    seed = time.time_ns() % 2**32 if seed is None else seed
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder) / name for name in ("runtime", "training", "monitoring")]
        for place in places:
            place.mkdir()
        readers = [
            *of_runtime.readers(places[0]),
            *of_training.readers(places[1]),
            *of_monitoring.readers(places[2]),
        ]
        found = fuzz(
            [reader for reader in readers if only is None or only in reader.name],
            seed,
            KEPT,
            loads=0 if minutes else loads,
            until=start + 60 * minutes if minutes else float("inf"),
        )
    rows: list[dict[str, Any]] = [
        {
            "reader": name,
            **{key: tally.counts[key] for key in ("refused", "accepted", "failed")},
            "slowest_s": round(tally.seconds, 3),
            "memory_mb": round(tally.memory / 1e6, 1),
        }
        for name, tally in found.items()
    ]
    echo(table(list(rows[0]), [list(row.values()) for row in rows]))
    failures = [
        {"reader": name, "file": file, "why": why}
        for name, tally in found.items()
        for why, file in tally.failures.items()
    ]
    total = sum(row[key] for row in rows for key in ("refused", "accepted", "failed"))
    seconds = round(time.monotonic() - start)
    if json_file:
        figures = {"seed": seed, "loads": total, "seconds": seconds, "readers": rows}
        about = {"commit": commit(), "machine": machine()}
        write_json(json_file, {**about, **figures, "failures": failures})
    for failure in failures:
        echo(f"error: {failure['reader']}, kept as '{failure['file']}': {failure['why']}", err=True)
    echo(f"\n{total:,} damaged files in {seconds} s, seed {seed}")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
