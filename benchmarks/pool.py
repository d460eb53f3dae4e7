"""Measure the memory and the frames per second of n sessions over one base.

    python -m benchmarks.pool [--seconds 60] [--json FILE]

ViT-B/16 with random weights; each session predicts with its own task. The tasks change 0.1 % of
the base's entries, or nothing (a head over the untouched encoder). Memory is the proportional set
size of a process of its own, where a page that several sessions map counts once, and the whole base
is counted even where every session has copied its pages. `tour`: after each session has been on
eight tasks. Against: as many sessions that each read the base for themselves.

Speed: a pool of n sessions that share the cores, against one session with a thread per core, in
turns of one frame per session, so that whatever else the machine does meets both alike.

A page of 4 KiB holds 1024 weights and is copied when one of them is changed. Changes of a share d
of the weights, spread evenly, touch 1 - (1 - d)^1024 of the pages: 64 % at 0.1 %.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import numpy as np

from runtime.benchmark.latency import machine, summary
from runtime.bundles.bundle import Bundle
from runtime.console import bytes_text, table, write_json
from runtime.sessions.pool import SessionPool
from runtime.sessions.session import Session

COUNTS = (1, 2, 4, 8)
KINDS = ("0.1 %", "untouched")
_START = re.compile(r"[0-9a-f]+-[0-9a-f]+ ")
_SHARED = "memfd:uda-base"


def memory(base: int) -> int:
    """Return the bytes of this process, and of a shared base also what nobody maps any more."""
    total = mapped = 0
    shared = inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        key, _, rest = line.partition(":")
        if _START.match(line):
            inside = _SHARED in line
            shared = shared or inside
        elif key == "Pss":
            total += int(rest.split()[0]) << 10
            mapped += int(rest.split()[0]) << 10 if inside else 0
        elif key == "Anonymous" and inside:  # copied pages are no part of the shared base
            mapped -= int(rest.split()[0]) << 10
    return total + (base - mapped if shared else 0)


def measure_memory(bundle: Path, tasks: list[str], count: int, pooled: bool) -> dict[str, int]:
    frame = np.zeros((224, 224, 3), np.uint8)
    with ExitStack() as stack:
        if pooled:
            pool = stack.enter_context(SessionPool.open(bundle, sessions=count, threads=1))
            sessions = list(pool.sessions)
        else:
            sessions = [stack.enter_context(Session.open(bundle, threads=1)) for _ in range(count)]
        base = sum(spec.nbytes for spec in sessions[0].layout.values())
        for number, session in enumerate(sessions):
            session.predict(frame, tasks[number % len(tasks)])
        at_once = memory(base)
        for number, session in enumerate(sessions):
            for step in range(len(tasks)):
                session.switch(tasks[(number + step) % len(tasks)])
        return {"bytes": at_once, "tour": memory(base)}


def measure_speed(bundle: Path, tasks: list[str], count: int, seconds: float) -> dict[str, Any]:
    """Return frames per second of a pool and of one session, turn by turn."""
    frame = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    mine = tasks[:count]
    times: dict[str, list[float]] = {"pool": [], "session": []}
    with (
        SessionPool.open(bundle, sessions=count) as pool,
        Session.open(bundle) as session,
        ThreadPoolExecutor(count) as cameras,
    ):

        def by_pool() -> None:
            list(cameras.map(lambda task: pool.predict(frame, task), mine))

        def by_session() -> None:
            for task in mine:
                session.predict(frame, task)

        for _ in range(3):  # pages are copied, tasks read
            by_pool()
            by_session()
        end = time.monotonic() + seconds
        while time.monotonic() < end or len(times["pool"]) < 5:
            for name, call in (("pool", by_pool), ("session", by_session)):
                start = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - start)
    found = {name: summary(values) for name, values in times.items()}
    rates = {name: 1e3 * count / found[name]["p50"] for name in times}
    return {
        "sessions": count,
        "turn_ms": found,
        "frames_per_second": rates,
        "ratio": float(np.median(np.divide(times["session"], times["pool"]))),
    }


def _apart(bundle: Path, **options: Any) -> dict[str, Any]:
    """Measure in a process of its own."""
    flags = [part for key, value in options.items() for part in (f"--{key}", str(value))]
    command = [sys.executable, "-m", "benchmarks.pool", "--bundle", str(bundle), *flags]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def render_memory(rows: list[dict[str, Any]]) -> str:
    cells = [
        [
            row["kind"],
            row["sessions"],
            *(bytes_text(row[side][key]) for key in ("bytes", "tour") for side in ("pool", "own")),
            *(f"{row['pool'][key] / row['own'][key]:.2f} x" for key in ("bytes", "tour")),
        ]
        for row in rows
    ]
    header = ("tasks change", "sessions", "pool", "own bases", "pool, tour", "own bases, tour")
    return table((*header, "pool / own", "tour"), cells)


def render_speed(rows: list[dict[str, Any]]) -> str:
    cells = [
        [
            row["sessions"],
            *(f"{row['frames_per_second'][name]:.2f}" for name in ("pool", "session")),
            f"{row['ratio']:.2f} x",
            row["turn_ms"]["pool"]["samples"],
        ]
        for row in rows
    ]
    header = ("sessions", "pool, frames/s", "one session, frames/s", "pool / one", "turns")
    return table(header, cells)


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), default=Path("artifacts/benchmarks"))
@click.option("--seconds", default=60.0, show_default=True, help="For each number of sessions.")
@click.option("--json", "json_file", type=click.Path(path_type=Path))
@click.option("--bundle", type=click.Path(path_type=Path), help="Measure this one, print JSON.")
@click.option("--kind", type=click.Choice(KINDS), default=KINDS[0], hidden=True)
@click.option("--sessions", default=1, hidden=True)
@click.option("--pooled", type=bool, default=True, hidden=True)
def main(
    folder: Path,
    seconds: float,
    json_file: Path | None,
    bundle: Path | None,
    kind: str,
    sessions: int,
    pooled: bool,
) -> None:
    """Measure a pool of sessions at ViT-B/16 size."""
    if bundle is not None:
        entries = Bundle.open(bundle).manifest.tasks
        tasks = [entry.id for entry in entries if (entry.changed == 0) == (kind == "untouched")]
        click.echo(json.dumps(measure_memory(bundle, tasks, sessions, pooled)))
        return
    from benchmarks._models import make_model

    model = make_model("ViT-B-16", folder / "pool", (0.001,), 8, plain=8, baked=False)
    rows = []
    for kind in KINDS:
        for count in COUNTS:
            sides = {
                name: _apart(model.bundle, kind=kind, sessions=count, pooled=name == "pool")
                for name in ("pool", "own")
            }
            rows.append({"kind": kind, "sessions": count, **sides})
    click.echo(render_memory(rows))
    cores = machine()["cores"]
    numbers = [count for count in COUNTS if count <= 2 * cores]
    speed = [measure_speed(model.bundle, list(model.tasks), n, seconds) for n in numbers]
    click.echo("\n" + render_speed(speed))
    if json_file:
        write_json(json_file, {"memory": rows, "speed": speed, "machine": machine()})


if __name__ == "__main__":
    main()
