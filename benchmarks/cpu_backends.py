"""Compare the switches and the memory of the backends of the CPU.

    python -m benchmarks.cpu_backends [--model ViT-B-16] [--runs 3] [--json FILE]

Full-size models with random weights. A switch leads to a task that changes 0.5 % of the weights;
the sessions take turns. Memory is the resident set of a process of its own, libraries included,
after it has classified frames of two tasks. Ratios are to ONNX Runtime, at the same precision.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks._models import make_model
from runtime.benchmark.latency import machine, summary, timed
from runtime.console import bytes_text, table, write_json
from runtime.sessions.session import Session

BACKENDS = ("ort", "openvino")
TARGETS = {"switch": 1.1, "memory": 1.2}


def switches(bundle: Path, tasks: tuple[str, str], count: int) -> dict[str, list[float]]:
    """Return the seconds of switches by backend, both ways between two tasks."""
    with ExitStack() as stack:
        sessions = {
            name: stack.enter_context(Session.open(bundle, backend=name, threads=2))
            for name in BACKENDS
        }
        for session in sessions.values():
            for task in tasks:
                session.switch(task)
                session.predict(np.zeros((224, 224, 3), np.uint8))
        times: dict[str, list[float]] = {name: [] for name in BACKENDS}
        draw = np.random.default_rng(0)
        for turn in range(count):
            for name in draw.permutation(BACKENDS).tolist():
                task = tasks[turn % 2]
                times[name].append(timed(lambda: sessions[name].switch(task)))  # noqa: B023
    return times


def memory(bundle: Path, backend: str) -> int:
    """Return the bytes of a process that classifies frames with a backend."""
    command = [sys.executable, "-m", "benchmarks._resident", str(bundle), backend]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure(name: str, precision: Any, folder: Path, runs: int) -> list[dict[str, Any]]:
    """Return a row for the switches and one for the memory of each backend."""
    model = make_model(name, folder, precision=precision)
    rows: list[dict[str, Any]] = []
    own = {"model": name, "precision": precision}
    found = [switches(model.bundle, model.tasks[-2:], 200) for _ in range(runs)]
    held = [{backend: memory(model.bundle, backend) for backend in BACKENDS} for _ in range(runs)]
    for backend in BACKENDS:
        ratios = [float(np.median(np.divide(f[backend], f[BACKENDS[0]]))) for f in found]
        ms = [summary(each[backend])["p50"] for each in found]
        rows.append({**own, "what": "switch", "backend": backend, "ms": ms, "ratios": ratios})
        ratios = [each[backend] / each[BACKENDS[0]] for each in held]
        sizes = [each[backend] for each in held]
        rows.append({**own, "what": "memory", "backend": backend, "bytes": sizes, "ratios": ratios})
    return rows


def _shown(row: dict[str, Any]) -> list[str]:
    ratios = row["ratios"]
    value = f"{np.median(row['ms']):.2f} ms" if "ms" in row else bytes_text(max(row["bytes"]))
    return [
        f"{row['model']} {row['precision']} {row['what']}",
        row["backend"],
        value,
        f"{np.median(ratios):.3f} x",
        f"{min(ratios):.3f}-{max(ratios):.3f}",
        f"{TARGETS[row['what']]:.1f}",
    ]


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), default=Path("artifacts/benchmarks"))
@click.option("--model", default="ViT-B-16", show_default=True)
@click.option("--precision", "precisions", multiple=True, default=("fp32", "bf16"))
@click.option("--runs", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(
    folder: Path,
    model: str,
    precisions: tuple[str, ...],
    runs: int,
    json_file: Path | None,
) -> None:
    """Compare switches and memory."""
    rows = [row for p in precisions for row in measure(model, p, folder, runs)]
    click.echo(table(("", "backend", "median", "ratio", "range", "target"), map(_shown, rows)))
    if json_file:
        write_json(json_file, {"rows": rows, "machine": machine()})


if __name__ == "__main__":
    main()
