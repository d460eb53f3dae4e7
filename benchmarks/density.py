"""Accuracy against density in the demo world: thresholds, budgets, and training on a grid.

    python -m benchmarks.density

writes `table.md`, `table.json` and `density.png` into `benchmarks/results/density`. Runs lie in the
folder of `benchmarks.demo_accuracy` and are shared with it; a run that is there is not repeated, an
interrupted one continues. About 40 CPU seconds a run, 12 runs per task and seed.

Every network is evaluated three times on the held-out target: as it was trained, and after its
weights were rounded to fp16 and to bf16, as a device of that precision holds them. What was trained
on a grid loses nothing there. The budgets and thresholds stand as they were written down before the
first run; none was chosen by accuracy.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.demo_accuracy import DATASETS, ROWS, Setup
from benchmarks.demo_accuracy import run as train_or_find
from runtime.console import UdaGroup, write_json
from runtime.storage.writing import replacing, write_bytes

GRIDS = ("fp32", "fp16", "bf16")


@dataclass(frozen=True)
class Way:
    """One way to choose what stays, at several densities."""

    name: str
    color: str
    rows: tuple[Setup, ...]


def _known(name: str) -> Setup:
    return next(row for row in ROWS if row.name == name)


def _rst(name: str, *settings: str) -> Setup:
    return Setup(name, "cmkd", ("rst=true", *settings))


WAYS = (
    Way("reference", "#444444", (_known("CMKD, head only"), _known("CMKD"))),
    Way(
        "threshold",
        "#33506b",
        (
            _rst("CMKD + RST, threshold 1e-5", "rst_threshold=1e-5"),
            _known("CMKD + RST, the shipped threshold"),
            _known("CMKD + RST, threshold 1e-4"),
            _rst("CMKD + RST, threshold 2e-4", "rst_threshold=2e-4"),
        ),
    ),
    Way(
        "budget",
        "#2a7f4f",
        tuple(
            _rst(f"CMKD + RST, budget {100 * share:g} %", f"rst_density={share}")
            for share in (0.0005, 0.001, 0.005)
        ),
    ),
    Way(
        "budget on the fp16 grid",
        "#d9a441",
        (_rst("CMKD + RST, budget 0.1 %, fp16 grid", "rst_density=0.001", "grid=fp16"),),
    ),
    Way(
        "budget on the bf16 grid",
        "#c0392b",
        (
            _rst("CMKD + RST, budget 0.1 %, bf16 grid", "rst_density=0.001", "grid=bf16"),
            _rst("CMKD + RST, budget 0.5 %, bf16 grid", "rst_density=0.005", "grid=bf16"),
        ),
    ),
)


def run(row: Setup, task: str, seed: int, root: Path) -> dict[str, Any]:
    """Train, or find, one run and evaluate it on every grid."""
    from adapt import data, methods
    from adapt.artifacts import store
    from adapt.artifacts.artifact import Artifact
    from adapt.artifacts.merge import Network
    from adapt.clip import model as base_models
    from adapt.compute.inference import predict
    from adapt.data.cache import pixels
    from adapt.evaluation.evaluate import score
    from adapt.optim.grid import snap
    from adapt.settings.layers import resolve

    model = "demo-rn32"
    found = train_or_find(row, task, seed, model, root)
    out = root / model / row.folder / f"seed{seed}"
    config = resolve(
        methods.get(row.method).Config, DATASETS[task[0]], row.method, row.settings
    ).config
    path = store.artifact_path(
        out, DATASETS[task[0]], task, store.variant(row.method, vars(config))
    )
    artifact, clip = Artifact.load(path), base_models.load(model, "demo")
    test = data.load(DATASETS[task[0]], task).test
    images = pixels(test, clip.image_size, artifact.preprocess.resize).images
    accuracy = {}
    for grid in GRIDS:
        network = Network.of(clip, artifact)
        snap(network.encoder, grid)  # type: ignore[arg-type]
        logits = predict(network, images, 256, mean=clip.mean, std=clip.std)
        scores = score(logits, test.labels, artifact.task.classes)
        accuracy[grid] = None if scores is None else scores.accuracy
    return {**found, "grid": artifact.config["grid"], "accuracy": accuracy}


def of(results: Sequence[dict[str, Any]], row: Setup, task: str) -> list[dict[str, Any]]:
    """Return the runs of a row on a task, one per seed."""
    return [r for r in results if (r["row"], r["task"]) == (row.name, task)]


def _mean(values: Sequence[float], digits: int = 1) -> str:
    spread = f" +- {statistics.stdev(values):.{digits}f}" if len(set(values)) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


def markdown(results: Sequence[dict[str, Any]], tasks: Sequence[str]) -> str:
    """Return the table: mean and standard deviation over the seeds."""
    lines = [
        "| task | way | density % | as trained | rounded to fp16 | rounded to bf16 | file kB |",
        "|---|---|---|---|---|---|---|",
    ]
    for task in tasks:
        for row in (row for way in WAYS for row in way.rows):
            if mine := of(results, row, task):
                cells = [_mean([100 * r["density"] for r in mine], 3)]
                cells += [_mean([r["accuracy"][grid] for r in mine]) for grid in GRIDS]
                cells.append(f"{statistics.mean(r['file_bytes'] for r in mine) / 1e3:.0f}")
                lines.append(f"| {task} | {row.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _points(
    results: Sequence[dict[str, Any]], way: Way, task: str, grid: str
) -> Iterator[tuple[float, float, float]]:
    """Yield mean density in percent, mean accuracy and its standard deviation, by density."""
    found = [of(results, row, task) for row in way.rows]
    for mine in sorted((m for m in found if m), key=lambda m: m[0]["density"]):
        values = [r["accuracy"][grid if r["grid"] == "fp32" else r["grid"]] for r in mine]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        density = statistics.mean(100 * r["density"] for r in mine)
        yield density, statistics.mean(values), spread


def picture(results: Sequence[dict[str, Any]], tasks: Sequence[str], path: Path) -> None:
    """Draw accuracy against density; dotted what rounding to bf16 leaves of float32 training."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * len(tasks), 4.6), layout="constrained")
    for axis, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        head, dense = (list(_points(results, way, task, "fp32")) for way in (
            Way("", "", WAYS[0].rows[:1]), Way("", "", WAYS[0].rows[1:])))  # fmt: skip
        for name, reference in (("head only", head), ("dense", dense)):
            for _, level, _ in reference:
                axis.axhline(level, color=WAYS[0].color, linewidth=0.8)
                axis.annotate(name, (0.01, level), xycoords=("axes fraction", "data"), fontsize=8,
                              va="bottom", color=WAYS[0].color)  # fmt: skip
        for way in WAYS[1:]:
            own = list(_points(results, way, task, "fp32"))
            if own:
                x, y, error = zip(*own, strict=True)
                axis.errorbar(x, y, error, fmt="o-", color=way.color, markersize=4, capsize=2,
                              linewidth=1.2, label=way.name)  # fmt: skip
            for grid, line in (("fp16", "--"), ("bf16", ":")) if "grid" not in way.name else ():
                if lost := list(_points(results, way, task, grid)):
                    x, y, _ = zip(*lost, strict=True)
                    axis.plot(x, y, line, color=way.color, linewidth=1, marker="x", markersize=4,
                              label=f"{way.name}, then rounded to {grid}")  # fmt: skip
        axis.set_xscale("log")
        axis.set_title(task)
        axis.set_xlabel("changed, % of the encoder")
        axis.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("accuracy on the held-out target, %")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, frameon=False, loc="outside lower center", ncols=4)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


@click.group(cls=UdaGroup, invoke_without_command=True)
@click.option("--task", "tasks", multiple=True, default=("f-h", "p-a"), show_default=True)
@click.option("--seed", "seeds", type=int, multiple=True, default=(0, 1, 2), show_default=True)
@click.option(
    "--runs",
    type=click.Path(file_okay=False, path_type=Path),
    default="benchmarks/results/demo_accuracy/artifacts",
    show_default=True,
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default="benchmarks/results/density",
    show_default=True,
)
@click.option("--threads", type=int, default=1, show_default=True)
def main(
    tasks: tuple[str, ...], seeds: tuple[int, ...], runs: Path, out: Path, threads: int
) -> None:
    """Show what every density costs, by each way to reach it."""
    import torch

    torch.set_num_threads(threads)
    results: list[dict[str, Any]] = []
    for seed in seeds:
        for task in tasks:
            for row in (row for way in WAYS for row in way.rows):
                results.append(run(row, task, seed, runs))
                last = results[-1]
                shown = " ".join(f"{g} {v:.2f}" for g, v in last["accuracy"].items())
                click.echo(f"{task} seed {seed} {row.name}: {100 * last['density']:.3f} % {shown}")
        write_bytes(out / "table.md", markdown(results, tasks).encode())
        write_json(out / "table.json", {"seeds": seeds, "runs": results})
        picture(results, tasks, out / "density.png")
    click.echo("\n" + markdown(results, tasks))


if __name__ == "__main__":
    main()
