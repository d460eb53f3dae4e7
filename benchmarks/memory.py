"""Measure the memory of each further loaded task.

    python -m benchmarks.memory [--json FILE]

A session at ViT-B/16 size, in a process of its own, loads tasks one after the other. The growth of
the resident set per task is compared with the task's own bytes: a 4-byte index and a value per
changed weight, and the head. Target: at most 1.3 times. The file is smaller still: it is deflated.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks._resident import resident
from runtime.benchmark.latency import machine
from runtime.console import bytes_text, table, write_json
from runtime.sessions.session import Session

WARM = 4
"""Tasks loaded before measuring: the first ones also grow shared buffers."""


def measure(bundle: Path) -> dict[str, Any]:
    with Session.open(bundle, threads=2) as session:
        entries = session.bundle.manifest.tasks
        for entry in entries[:WARM]:
            session.switch(entry.id)
            session.predict(np.zeros((224, 224, 3), np.uint8))
        later = entries[WARM:]
        before = resident()
        held = sum(session.load(entry.id) for entry in later) / len(later)
        added = (resident() - before) / len(later)
        head = session.bundle.task(later[0].id, session.layout).head_tensors
    own = np.mean([8 * entry.changed for entry in later]) + sum(a.nbytes for a in head.values())
    file = np.mean([entry.file.bytes for entry in later])
    return {
        "tasks": len(later),
        "file": float(file),
        "patch_and_head": float(own),
        "held": held,
        "added_rss": added,
        "ratio": added / float(own),
        "ratio_to_file": added / float(file),
    }


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), default=Path("artifacts/benchmarks"))
@click.option("--tasks", default=24, show_default=True, help="Tasks per density.")
@click.option("--json", "json_file", type=click.Path(path_type=Path))
@click.option("--bundle", type=click.Path(path_type=Path), help="Measure this one, print JSON.")
def main(folder: Path, tasks: int, json_file: Path | None, bundle: Path | None) -> None:
    """Measure memory per resident task."""
    if bundle is not None:
        click.echo(json.dumps(measure(bundle)))
        return
    from benchmarks._models import make_model

    results = []
    for density in (0.001, 0.005):
        model = make_model("ViT-B-16", folder / f"memory-{density}", (density,), tasks)
        # A process of its own: making the model left holes in this one's heap.
        command = [sys.executable, "-m", "benchmarks.memory", "--bundle", str(model.bundle)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        results.append({"density": density, **json.loads(done.stdout)})
    header = ("density", "tasks", "file", "patch + head", "held", "added RSS", "/ own", "/ file")
    rows = [
        [
            f"{r['density']:.1%}",
            r["tasks"],
            *(bytes_text(int(r[k])) for k in ("file", "patch_and_head", "held", "added_rss")),
            f"{r['ratio']:.2f} x",
            f"{r['ratio_to_file']:.2f} x",
        ]
        for r in results
    ]
    click.echo(table(header, rows))
    if json_file:
        write_json(json_file, {"rows": results, "machine": machine()})


if __name__ == "__main__":
    main()
