"""Compare many tasks on one device with the alternatives in `benchmarks/peers/`.

    python -m benchmarks.tasks [--model ViT-B-16] [--rounds 15] [--json FILE]

Against (a) a new ONNX Runtime session per switch, (b) all sessions resident, (c) ONNX Runtime's own
adapters with the full changed tensors, (d) PyTorch `load_state_dict`, (e) PyTorch with a sparse
in-place copy; see `benchmarks/peers/`. Encoders of full size with random weights, uniformly random
residuals, one frame of 224 x 224, two threads for everybody. All peers live in one process and
take turns in random order; all must give the same logits. Memory is that of a process of its own
for each peer and number of tasks, after every task (of peers that keep no whole model per task:
five tasks) has classified a frame. What would need more than `--limit` is not tried but computed
from 1 and 10 tasks, and marked so.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks._resident import resident
from benchmarks.peers import DISTINCT, KINDS, Files, Kind
from runtime.benchmark.latency import machine, summary, timed
from runtime.bundles.bundle import Bundle
from runtime.console import bytes_text, table, write_json

THREADS = 2
COUNTS = (1, 10, 50)
SWITCHES = 5
"""Switches of a turn, if they are quick; the last one is followed by predictions."""
QUICK = 0.05
PAUSE = 0.01
"""Seconds between two peers: the threads of the last one spin for a moment before they sleep."""
APART = 2e-3
"""Largest difference of logits between peers, of the largest logit; they round differently."""


def pixels() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), dtype=np.uint8)


def measure_speed(files: Files, rounds: int) -> dict[str, dict[str, Any]]:
    """Return per peer the summaries of `switch`, `first` (with the switch) and `steady`."""
    frame = pixels()
    draw = np.random.default_rng(0)
    peers = {key: kind.open(files, DISTINCT, THREADS) for key, kind in KINDS.items()}
    times: dict[str, dict[str, list[float]]] = {
        key: {"switch": [], "first": [], "steady": []} for key in peers
    }
    wanted = []
    for number in range(DISTINCT):
        for key, peer in peers.items():
            peer.switch(number)
            logits = peer.predict(frame)
            if key == "ours":
                wanted.append(logits)
            elif np.abs(logits - wanted[number]).max() > APART * np.abs(wanted[number]).max():
                raise click.ClickException(f"{KINDS[key].title} computes something else than we do")
    current = dict.fromkeys(peers, DISTINCT - 1)
    for _ in range(rounds):
        for key in draw.permutation([*peers]).tolist():
            peer, own = peers[key], times[key]
            time.sleep(PAUSE)
            peer.predict(frame)  # wakes its threads, and fills the caches with what it reads
            for turn in range(SWITCHES):
                current[key] = (current[key] + int(draw.integers(1, DISTINCT))) % DISTINCT
                own["switch"].append(timed(lambda: peer.switch(current[key])))  # noqa: B023
                if own["switch"][-1] > QUICK or turn == SWITCHES - 1:
                    break
            own["first"].append(own["switch"][-1] + timed(lambda: peer.predict(frame)))  # noqa: B023
            own["steady"].append(timed(lambda: peer.predict(frame)))  # noqa: B023
    for peer in peers.values():
        peer.close()
    return {key: {what: summary(t) for what, t in own.items()} for key, own in times.items()}


def measure_memory(files: Files, key: str, tasks: int) -> int:
    """Return this process's memory with one peer and its tasks; run in a process of its own.

    With no task, of the interpreter with what the peer imports.
    """
    kind, frame = KINDS[key], pixels()
    if not tasks:
        kind.load()
        return resident()
    peer = kind.open(files, tasks, THREADS)
    for number in range(tasks if kind.whole else min(tasks, 5)):
        peer.switch(number)
        peer.predict(frame)
    return resident()


def memory(files: Files, key: str, kind: Kind, limit: int) -> dict[int, dict[str, Any]]:
    """Return bytes and whether they were measured, by the number of tasks."""
    found: dict[int, dict[str, Any]] = {}
    for tasks in COUNTS:
        if len(found) > 1:
            (few, low), (many, high) = ((n, found[n]["bytes"]) for n in COUNTS[:2])
            guess = high + (tasks - many) * (high - low) // (many - few)
            if kind.whole and guess > limit:
                found[tasks] = {"bytes": guess, "measured": False}
                continue
        found[tasks] = {"bytes": _apart(files, key, tasks), "measured": True}
    return found


def _apart(files: Files, key: str, tasks: int) -> int:
    asked = json.dumps([files.name, str(files.bundle), str(files.folder), key, tasks])
    command = [sys.executable, "-m", "benchmarks.tasks", "--memory", asked]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def disk(files: Files, kind: Kind) -> float:
    """Return the bytes on disk of each further task."""
    if not kind.per_task:
        entries = Bundle.open(files.bundle).manifest.tasks[:DISTINCT]
        return float(np.mean([entry.file.bytes for entry in entries]))
    path = getattr(files, kind.per_task)
    return float(np.mean([path(number).stat().st_size for number in range(DISTINCT)]))


def measure(files: Files, rounds: int, limit: int) -> list[dict[str, Any]]:
    speed = measure_speed(files, rounds)
    return [
        {
            "model": files.name,
            "peer": key,
            **speed[key],
            "memory": memory(files, key, kind, limit),
            "disk": disk(files, kind),
        }
        for key, kind in KINDS.items()
    ]


def render(rows: list[dict[str, Any]]) -> str:
    header = ("", "switch p50", "p99", "n", "switch + first frame", "steady frame")
    lines = [
        [
            f"{r['model']} {KINDS[r['peer']].title}",
            *(f"{r['switch'][p]:.3f}" for p in ("p50", "p99")),
            r["switch"]["samples"],
            f"{r['first']['p50']:.1f}",
            f"{r['steady']['p50']:.1f}",
            *(
                bytes_text(m["bytes"]) + ("" if m["measured"] else " *")
                for m in r["memory"].values()
            ),
            bytes_text(round(r["disk"])),
        ]
        for r in rows
    ]
    memories = [f"RSS {n} task{'s' if n > 1 else ''}" for n in COUNTS]
    return table((*header, *memories, "disk per task"), lines)


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), default=Path("artifacts/benchmarks"))
@click.option("--model", "names", multiple=True, default=("ViT-B-16", "RN50"), show_default=True)
@click.option("--density", default=0.001, show_default=True, help="Of the residuals.")
@click.option("--rounds", type=click.IntRange(min=2), default=15, show_default=True)
@click.option("--limit", default=12.0, show_default=True, help="GB that a peer may take.")
@click.option("--json", "json_file", type=click.Path(path_type=Path))
@click.option("--picture", "picture_file", type=click.Path(path_type=Path), help="PNG to draw.")
@click.option("--memory", "asked", hidden=True, help="Measure this alone, print bytes.")
def main(
    folder: Path,
    names: tuple[str, ...],
    density: float,
    rounds: int,
    limit: float,
    json_file: Path | None,
    picture_file: Path | None,
    asked: str | None,
) -> None:
    """Compare ways to hold many tasks."""
    if asked is not None:
        name, bundle, path, key, tasks = json.loads(asked)
        click.echo(measure_memory(Files(name, Path(bundle), Path(path)), key, tasks))
        return
    from benchmarks.peers._files import make_files

    rows = []
    for name in names:
        files = make_files(name, folder, density)
        rows += measure(files, rounds, int(limit * 1e9))
    click.echo(render(rows))
    click.echo(
        f"\nmilliseconds, {THREADS} threads; switch + first frame: from the wish to the logits; "
        f"*: does not fit, computed from {COUNTS[0]} and {COUNTS[1]} tasks"
    )
    imports = {key: _apart(files, key, 0) for key in ("ours", "new-session", "load-state-dict")}
    shown = (f"{bytes_text(size)} {KINDS[key].title}" for key, size in imports.items())
    click.echo(f"of the memory, Python and its packages: {', '.join(shown)}")
    if json_file:
        write_json(json_file, {"rows": rows, "imports": imports, "rounds": rounds,
                               "machine": machine()})  # fmt: skip
    if picture_file:
        from benchmarks._pictures import draw_tasks

        draw_tasks(rows, picture_file)


if __name__ == "__main__":
    main()
