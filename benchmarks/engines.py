"""Size and build time of TensorRT engines: weights as inputs against constant weights.

    python -m benchmarks.engines [--target sm86] [--model ViT-B-16] [--json FILE]

Full-size models with random weights, a task of 65 classes, profile `orin`. With TensorRT-RTX and a
target no GPU is needed; `--target ''` builds for the GPU of this machine with whichever library it
has. Each engine is built several times, interleaved; the fastest counts. Targets: 15 MB and 30 s
for an engine of ViT-B/16 whose weights are inputs.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click

from benchmarks._models import make_model
from runtime.backends.trt import profile as profiles
from runtime.backends.trt.graphs import baked_graphs, graphs_of
from runtime.backends.trt.library import library
from runtime.backends.trt.sets import build_all
from runtime.benchmark.latency import machine
from runtime.bundles.bundle import Bundle
from runtime.console import table, write_json
from runtime.models import Precision

MODELS = ("ViT-B-16", "ViT-B-32", "RN50")
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16")
DENSITY = 0.001


def measure(bundle: Bundle, targets: tuple[str, ...], runs: int) -> list[dict[str, Any]]:
    """Return a row for each engine of a bundle and for the encoder with constant weights."""
    profile = profiles.load("orin")
    rows: dict[str, dict[str, Any]] = {}
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            encoders = (graph for graph in baked_graphs(bundle) if graph.stem.startswith("encoder"))
            graphs = [*graphs_of(bundle), next(encoders)]
            for built in build_all(bundle, folder, profile, targets, graphs=graphs):
                engine = built.engine
                name = engine.stem if engine.recipe.weights is None else "encoder, baked"
                row = rows.setdefault(name, {"engine": name, "seconds": []})
                row["bytes"] = engine.plan.bytes
                row["seconds"].append(engine.seconds)
    return list(rows.values())


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), default=Path("artifacts/benchmarks"))
@click.option("--model", "names", multiple=True, type=click.Choice(MODELS))
@click.option(
    "--target", default="sm86", show_default=True, help="GPU generation, or '' for this GPU."
)
@click.option("--runs", type=click.IntRange(1), default=3, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(
    folder: Path, names: tuple[str, ...], target: str, runs: int, json_file: Path | None
) -> None:
    """Measure the size and the build time of engines."""
    click.echo(f"{library()}, for {target or 'this GPU'}\n")
    document: dict[str, Any] = {"machine": machine(), "library": str(library()), "target": target}
    cells = []
    for name in names or MODELS:
        for precision in PRECISIONS:
            model = make_model(name, folder, (DENSITY,), 1, precision, baked=False)
            rows = measure(Bundle.open(model.bundle), (target,) if target else (), runs)
            document[f"{name} {precision}"] = rows
            for row in rows:
                cells.append(
                    [
                        f"{name} {precision}",
                        row["engine"],
                        f"{row['bytes'] / 1e6:.1f} MB",
                        f"{min(row['seconds']):.1f} s",
                        f"{max(row['seconds']):.1f} s",
                    ]
                )
    click.echo(table(("model", "engine", "size", "fastest build", "slowest"), cells))
    if json_file:
        write_json(json_file, document)


if __name__ == "__main__":
    main()
