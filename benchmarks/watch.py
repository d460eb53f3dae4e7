"""Measure what the outputs of `uda-runtime watch` cost, and run it for half an hour.

    python -m benchmarks.watch [--rounds 8] [--minutes 30] [--json FILE]
    python -m benchmarks.watch --cost           the cost alone
    python -m benchmarks.watch --acceptance     the half hour alone

`benchmarks._watch_cost` and `_watch_soak` say what is run, `_watch_verdict` what must be true. Both
need mosquitto, the acceptance also ffmpeg and `make demo`. Where one part is run, the other one
stays in the file. Exits with 1 where something is not as it must be; the cost has a target alone.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from benchmarks._watch_servers import needs
from benchmarks.switches import commit
from runtime.benchmark.latency import machine
from runtime.console import write_json


def accept(bundle: Path, minutes: float) -> dict[str, Any]:
    """Run the acceptance; return its figures and failures."""
    from benchmarks import _watch_soak, _watch_verdict

    with tempfile.TemporaryDirectory() as temporary:
        ended = _watch_soak.run(bundle, Path(temporary), 60 * minutes)
        found = _watch_verdict.verdict(ended)
    click.echo(_watch_verdict.render(found))
    for failure in found["failures"]:
        click.echo(f"error: {failure}", err=True)
    return {"minutes": minutes, **found}


def measure(models: Path, rounds: int, frames: int) -> dict[str, Any]:
    """Measure the cost; return its figures."""
    from benchmarks import _watch_cost

    with tempfile.TemporaryDirectory() as temporary:
        found = _watch_cost.measure(models, Path(temporary), rounds, frames)
    click.echo(_watch_cost.render(found))
    return found


@click.command()
@click.option("--cost", "only_cost", is_flag=True, help="Measure the outputs alone.")
@click.option("--acceptance", "only_acceptance", is_flag=True, help="Run the half hour alone.")
@click.option("--minutes", type=click.FloatRange(min=1), default=30.0, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--frames", type=click.IntRange(min=5), default=60, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), default=Path("artifacts/benchmarks"))
@click.option("--bundle", type=click.Path(path_type=Path), default=Path("demo/demo.bundle"))
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(
    only_cost: bool,
    only_acceptance: bool,
    minutes: float,
    rounds: int,
    frames: int,
    folder: Path,
    bundle: Path,
    json_file: Path | None,
) -> None:
    """Measure the outputs of `uda-runtime watch`, and run it for a long time."""
    if only_cost and only_acceptance:
        raise click.UsageError("--cost and --acceptance exclude each other; leave out both")
    needs("mosquitto", *([] if only_cost else ["ffmpeg"]))
    if not only_cost and not bundle.is_dir():
        raise click.ClickException(f"'{bundle}' not found; run make demo, or name a --bundle")
    found = json.loads(json_file.read_text()) if json_file and json_file.is_file() else {}
    same = {"commit": commit(), "machine": machine()}
    if not only_acceptance:
        found["cost"] = {**measure(folder, rounds, frames), **same}
    if not only_cost:
        found["acceptance"] = {**accept(bundle, minutes), **same}
    if json_file:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        write_json(json_file, found)
    sys.exit(not only_cost and bool(found["acceptance"]["failures"]))


if __name__ == "__main__":
    main()
