"""Run commands in hostile surroundings: as another user, on full disks, on a read-only root.

    python -m benchmarks.environment [--json FILE]

`make acceptance PART=environment` runs this, as root of a Linux machine. 30 commands of the three
programs run as a user who has no home folder and few permissions; others on 30 small disks that
fill up at different steps; others where nothing is writable. Each must succeed, or exit
with 1 and one line that starts with `error: `, within a minute, and a bundle on a full disk must
stay whole. Exits with 1 if one does not.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import click

from benchmarks._surroundings import World, full_disks, preload, read_only, strangers
from benchmarks.switches import commit
from runtime.benchmark.latency import machine
from runtime.console import table, write_json

STRANGERS = (
    "runtime info {open}/b",
    "runtime info {open}/b --check",
    "runtime info {closed}/b",
    "runtime info {open}/base.bundle --check",
    "runtime info {open}/graphs.bundle --check",
    "runtime info {open}/b --engines {closed}",
    "runtime predict {open}/b {open}/x.png --task day-night",
    "runtime predict {open}/b {closed}/x.png --task day-night",
    "runtime predict {open}/b {open}/x.png --task day-night --json {open}/out.json",
    "runtime predict {open}/tasks.bundle {open}/x.png --task day-night",
    "runtime predict {open}/base.bundle {open}/x.png --task day-night",
    "runtime install {open}/task.safetensors --bundle {open}/b",
    "runtime install {closed}/task.safetensors --bundle {open}/b",
    "runtime install {open}/task.safetensors --bundle {closed}/b",
    "runtime remove day-night --bundle {open}/b",
    "runtime rollback day-night --bundle {open}/b",
    "runtime bench {open}/b --samples 10 --warmup 1 --json {open}/bench.json",
    "adapt inspect {open}/trained/street/day-night/unimos",
    "adapt inspect {closed}/trained/street/day-night/unimos",
    "adapt inspect {closed}",
    "adapt data check --data {open}/street",
    "adapt data check --data {closed}/street",
    "adapt data check --data {open}/street --report {open}/report.html",
    "adapt train {train} --artifacts {open}/runs",
    "adapt train {train} --data {closed}/street --artifacts {mine}/runs",
    "adapt train {train} --artifacts {mine}/runs --set pretrained={closed}/w.pt",
    "adapt eval --data {open}/street --source day --target night --artifacts {closed}/trained",
    "export onnx {onnx} --artifacts {open}/trained --out {open}/new.bundle",
    "export onnx {onnx} --artifacts {closed}/trained --out {mine}/new.bundle",
    "export verify {open}/b --artifacts {closed}/trained",
)
"""Commands of a stranger, who may not read {closed}, and may write to {mine} alone."""
FILLING = (
    "runtime predict {open}/b {open}/x.png --task day-night --json {disk}/out.json",
    "runtime install {open}/task.safetensors --bundle {disk}/b",
    "adapt data check --data {open}/street --report {disk}/report.html",
    "adapt train {train} --artifacts {disk}/runs",
    "export onnx {onnx} --artifacts {open}/trained --out {disk}/new.bundle",
)
"""Commands on a disk that fills up; stdout, home, cache and temporary files are on it too."""
READ_ONLY = (
    "runtime predict {open}/b {open}/x.png --task day-night",
    "runtime predict {open}/b {open}/x.png --task day-night --json {mine}/out.json",
    "runtime install {open}/task.safetensors --bundle {open}/b",
    "runtime remove day-night --bundle {open}/b",
    "adapt inspect {open}/trained/street/day-night/unimos",
    "adapt data check --data {open}/street",
    "adapt train {train} --artifacts {mine}/runs",
    "adapt train --dataset demo-digits --task f-h --method zero_shot --artifacts {mine}/runs",
    "export onnx {onnx} --artifacts {open}/trained --out {mine}/new.bundle",
    "export verify {open}/b --artifacts {open}/trained --images {open}/street/night",
)
"""Commands where no disk is writable."""
LOADING = (
    "runtime info {open}/b",
    "runtime bench {open}/b --samples 10 --warmup 1",
    "runtime predict {open}/b {open}/x.png --task day-night",
    "adapt data check --data {open}/street --report {mine}/report.html",
    "adapt train {train} --artifacts {mine}/first",
    "adapt eval --data {open}/street --source day --target night --artifacts {mine}/first",
    "export onnx {onnx} --artifacts {open}/trained --out {mine}/first.bundle",
    "export verify {mine}/first.bundle --artifacts {open}/trained --images {open}/street/night",
)
"""Commands that together import what all commands do."""


@click.command()
@click.option(
    "--sizes", type=click.IntRange(min=2), default=6, help="Number of disks for each command."
)
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(sizes: int, json_file: Path | None) -> None:
    """Run commands as another user, on full disks and on a read-only root."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise click.ClickException(
            "this needs root on Linux, to run as another user; run it with sudo on a Linux machine"
        )
    with tempfile.TemporaryDirectory() as name:
        world = World(Path(name))
        preload(world, LOADING)
        kinds = {
            "stranger": strangers(world, STRANGERS),
            "full disk": full_disks(world, FILLING, sizes),
            "read-only root": read_only(world, READ_ONLY),
        }
    rows, found = [], {"commit": commit(), "machine": machine()}
    for kind, ended in kinds.items():
        faults = [f"{each.words}: {each.fault}" for each in ended if each.fault]
        good, clean = (sum(e.code == code and not e.fault for e in ended) for code in (0, 1))
        slowest = max(each.seconds for each in ended)
        rows.append([kind, len(ended), good, clean, len(faults), f"{slowest:.1f}"])
        found[kind] = {
            "commands": len(ended),
            "succeeded": good,
            "one_error": clean,
            "faults": faults,
            "slowest_seconds": round(slowest, 1),
        }
        for fault in faults:
            click.echo(f"{kind}: {fault}", err=True)
    click.echo(table(("", "commands", "succeeded", "one error", "faults", "slowest (s)"), rows))
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        write_json(json_file, found)
    sys.exit(any(row[4] for row in rows))


if __name__ == "__main__":
    main()
