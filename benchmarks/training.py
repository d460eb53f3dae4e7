"""Training steps per second of CMKD + RST against a plain re-implementation, end to end.

    python -m benchmarks.training --folder FOLDER

Both train from the same image files with the same batch sizes, alternating step by step in one
process; on a GPU a compiled variant follows, beside the plain one. With `--json` the file is
written again after every round of steps. Memory is the peak of a process of its own. Random weights
at full size: timings need no real ones. Without a GPU ViT-B/16 is bound by its float32 matrix
products, which both sides take from the same library: only a coarser precision makes that faster.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click
import torch

from adapt.compute.device import exact_float32
from benchmarks._training_cases import CASES, Case, variants
from runtime.benchmark.latency import peak_rss
from runtime.console import UdaGroup, bytes_text, table, write_json


def measure(made: Mapping[str, Callable[[], Any]], steps: int) -> Iterator[dict[str, list[float]]]:
    """Yield seconds per step of each variant so far, interleaved, after every round but the first.

    Args:
        made: Functions that build the variants.
        steps: Number of rounds.
    """
    built = {name: make() for name, make in made.items()}
    times: dict[str, list[float]] = {name: [] for name in built}
    for number in range(steps + 1):
        for name, trainer in built.items():
            started = time.perf_counter()
            trainer.step()
            if number >= 1:
                times[name].append(time.perf_counter() - started)
        if number >= 1:
            yield times


def rows_of(case: Case, times: Mapping[str, list[float]]) -> dict[str, dict[str, Any]]:
    """Return what is known of each variant by name, without its memory."""
    return {
        name: {
            "case": case.name,
            "variant": name,
            "step_ms": 1000 * statistics.median(values),
            "steps_per_second": 1 / statistics.median(values),
            # Step by step: what else the machine does then weighs on both sides.
            "ratio": statistics.median(p / v for p, v in zip(times["plain"], values, strict=True)),
            "steps": len(values),
            "peak_bytes": None,
        }
        for name, values in times.items()
    }


def peak(key: str, name: str, device: str, folder: Path, threads: int) -> int:
    """Return the peak memory in bytes of a process that does two steps of one variant."""
    command = [sys.executable, "-m", "benchmarks.training", "--folder", str(folder)]
    command += ["--case", key, "--device", device, "--threads", str(threads), "--memory-of", name]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(json.loads(done.stdout.splitlines()[-1])["peak"])


def show(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the rows as a table."""
    header = ("model, batch", "variant", "ms a step", "steps/s", "to plain", "peak memory")
    return table(
        header,
        [
            (
                row["case"],
                row["variant"],
                f"{row['step_ms']:.1f}",
                f"{row['steps_per_second']:.2f}",
                f"{row['ratio']:.2f} x",
                "-" if row["peak_bytes"] is None else bytes_text(row["peak_bytes"]),
            )
            for row in rows
        ],
    )


@click.group(cls=UdaGroup, invoke_without_command=True)
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option(
    "--case", "keys", type=click.Choice(list(CASES)), multiple=True, default=("demo", "vit"),
    show_default=True,
)  # fmt: skip
@click.option("--device", default="cpu", show_default=True)
@click.option("--threads", type=int, default=2, show_default=True)
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--memory/--no-memory", default=True, help="Also the peak, in processes of its own.")
@click.option("--memory-of", hidden=True)
def main(
    folder: Path,
    keys: tuple[str, ...],
    device: str,
    threads: int,
    json_file: Path | None,
    memory: bool,
    memory_of: str | None,
) -> None:
    """Compare training steps per second."""
    torch.set_num_threads(threads)
    if memory_of:
        with exact_float32():
            groups = variants(CASES[keys[0]], device, folder)
            trainer = next(group[memory_of] for group in groups if memory_of in group)()
            for _ in range(2):
                trainer.step()
        cuda = device != "cpu"
        used = torch.cuda.max_memory_allocated() if cuda else 0
        used = used or peak_rss()
        click.echo(json.dumps({"peak": used}))
        return
    found: dict[tuple[str, str], dict[str, Any]] = {}

    def save() -> None:
        if json_file:
            rows = list(found.values())
            write_json(json_file, {"device": device, "threads": threads, "rows": rows})

    for key in keys:
        case = CASES[key]
        with exact_float32():
            for group in variants(case, device, folder):
                new = [(key, name) for name in group if (key, name) not in found]
                for times in measure(group, case.steps):
                    rows = rows_of(case, times)
                    found |= {(key, name): rows[name] for key, name in new}
                    save()
        for (other, name), row in found.items():
            if memory and other == key:
                row["peak_bytes"] = peak(key, name, device, folder, threads)
                save()
    click.echo(show(found.values()))


if __name__ == "__main__":
    main()
