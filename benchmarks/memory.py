"""What a further resident task adds to memory.

    python -m benchmarks.memory [--json FILE]

A session at ViT-B/16 size loads tasks one after the other. The growth of the resident set per task
is compared with the task's own bytes: a 4-byte index and a value per changed weight, and the head.
Target: at most 1.3 times. The task's file is smaller still, since it is compressed.
"""

from __future__ import annotations

import gc
import resource
from pathlib import Path

import click
import numpy as np

from benchmarks._models import make_model
from runtime.bench import machine
from runtime.bundle import Bundle
from runtime.console import bytes_text, table, write_json
from runtime.session import Session


def resident() -> int:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), default=Path("artifacts/benchmarks"))
@click.option("--tasks", default=24, show_default=True, help="Tasks per density.")
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(folder: Path, tasks: int, json_file: Path | None) -> None:
    """Measure memory per resident task."""
    rows, results = [], []
    for density in (0.001, 0.005):
        model = make_model("ViT-B-16", folder / f"memory-{density}", (density,), tasks)
        frame = np.zeros((224, 224, 3), np.uint8)
        with Session.open(model.bundle, threads=2) as session:
            entries = session.bundle.manifest.tasks
            for name in session.tasks[:4]:  # the first ones also grow shared buffers
                session.switch(name)
                session.predict(frame)
            before = resident()
            later = entries[4:]
            held = sum(session.load(entry.id) for entry in later) / len(later)
            added = (resident() - before) / len(later)
        bundle = Bundle.open(model.bundle)
        loaded = bundle.task(later[0].id, bundle.weights().layout)
        head = sum(array.nbytes for array in loaded.head_tensors.values())
        own = float(np.mean([entry.changed * 8 for entry in later]) + head)
        file = float(np.mean([entry.file.bytes for entry in later]))
        rows.append(
            [f"{density:.1%}", len(later), *map(lambda b: bytes_text(int(b)), (file, own, held))]
            + [bytes_text(int(added)), f"{added / own:.2f} x", f"{added / file:.2f} x"]
        )
        results.append(
            {"density": density, "tasks": len(later), "file": file, "patch_and_head": own}
            | {
                "held": held,
                "added_rss": added,
                "ratio": added / own,
                "ratio_to_file": added / file,
            }
        )
    header = ("density", "tasks", "file", "patch + head", "held", "added RSS", "/ own", "/ file")
    click.echo(table(header, rows))
    if json_file:
        write_json(json_file, {"rows": results, "machine": machine()})


if __name__ == "__main__":
    main()
