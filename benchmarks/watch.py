"""Measure what the outputs of `uda-runtime watch` cost, and run it for half an hour.

    python -m benchmarks.watch [--rounds 8] [--json FILE]                    the cost
    python -m benchmarks.watch --acceptance [--minutes 30] [--json FILE]     the acceptance

`benchmarks._watch_cost` and `_watch_soak` say what is run, `_watch_verdict` what must be true. Both
need mosquitto, the acceptance also ffmpeg and `make demo`. A file of an earlier run keeps its other
part. The acceptance exits with 1 where something is not as it must be.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import click

from benchmarks._watch_servers import needs
from benchmarks.switches import commit
from runtime.benchmark.latency import machine
from runtime.console import write_json


@click.command()
@click.option("--acceptance", is_flag=True, help="Run the command with everything disturbed.")
@click.option("--minutes", type=click.FloatRange(min=1), default=30.0, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--frames", type=click.IntRange(min=5), default=60, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), default=Path("artifacts/benchmarks"))
@click.option("--bundle", type=click.Path(path_type=Path), default=Path("demo/demo.bundle"))
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(
    acceptance: bool,
    minutes: float,
    rounds: int,
    frames: int,
    folder: Path,
    bundle: Path,
    json_file: Path | None,
) -> None:
    """Measure the outputs of `uda-runtime watch`, or run it for a long time."""
    needs("mosquitto", *(["ffmpeg"] if acceptance else []))
    with tempfile.TemporaryDirectory() as temporary:
        if acceptance:
            if not bundle.is_dir():
                raise click.ClickException(f"'{bundle}' not found; run make demo")
            from benchmarks import _watch_soak, _watch_verdict

            ended = _watch_soak.run(bundle, Path(temporary), 60 * minutes)
            found = {"minutes": minutes, **_watch_verdict.verdict(ended)}
            click.echo(_watch_verdict.render(found))
        else:
            from benchmarks import _watch_cost

            found = _watch_cost.measure(folder, Path(temporary), rounds, frames)
            click.echo(_watch_cost.render(found))
    if json_file:
        known = json.loads(json_file.read_text()) if json_file.is_file() else {}
        part = {**found, "commit": commit(), "machine": machine()}
        write_json(json_file, {**known, "acceptance" if acceptance else "cost": part})
    for failure in found.get("failures", []):
        click.echo(f"error: {failure}", err=True)
    sys.exit(1 if found.get("failures") else 0)


if __name__ == "__main__":
    main()
