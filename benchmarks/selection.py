"""Measure the cost of choosing the epoch without labels, by selector and method.

    python -m benchmarks.selection

writes `table.md`, `table.json` and `selection.png` into `benchmarks/results/selection`. It reads
each run's metrics.jsonl and trains what is missing, in the folder of `benchmarks.demo_accuracy`,
whose runs it shares; an interrupted run continues. About 35 CPU seconds a run where an encoder is
trained.

Scores are taken on the unlabelled target images that were trained on; the loss is in points of
accuracy on held-out ones, behind the epoch that their labels would have chosen. That epoch is the
luckiest of all, so a perfect selector would not reach 0 either.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from benchmarks.demo_accuracy import DATASETS, Setup
from runtime.console import UdaGroup, write_json
from runtime.storage.writing import replacing, write_bytes

ROWS = (
    Setup("source-only, fine-tuned", "source_only"),
    Setup("CMKD, head only", "cmkd", ("train_encoder=false",)),
    Setup("CMKD", "cmkd"),
    Setup("CMKD + RST, the shipped threshold", "cmkd", ("rst=true",)),
    Setup("linear probe", "linear_probe"),
    Setup("UniMoS", "unimos"),
    Setup("EKDA", "ekda"),
)


def run(row: Setup, task: str, seed: int, root: Path) -> dict[str, Any]:
    """Train, or find, one run and return the epoch that every selector would have chosen."""
    from adapt import data, methods
    from adapt.artifacts import store
    from adapt.artifacts.artifact import Artifact
    from adapt.evaluation import selection
    from adapt.settings.layers import resolve
    from adapt.settings.selectors import names
    from adapt.training.train import train

    dataset = DATASETS[task[0]]
    settings = (*row.settings, f"seed={seed}", "select=last")
    method = methods.get(row.method)
    images = data.load(dataset, task)
    resolved = resolve(method.Config, dataset, row.method, settings)
    config = resolved.with_data(method.from_data, len(images.source), len(images.target)).config
    out = root / config.model / row.folder / f"seed{seed}"
    path = store.artifact_path(out, dataset, task, store.variant(row.method, vars(config)))
    if path.exists():  # whatever it kept, it measured every epoch
        config = replace(config, select=Artifact.load(path).config["select"])
    found = train(row.method, images, config, out=out, resume=True)
    lines = found.path.with_name("metrics.jsonl").read_text().splitlines()
    history = [json.loads(line) for line in lines]
    chosen = {name: history[selection.choose(history, name)] for name in names()}
    best = max(row["accuracy"] for row in history)
    return {
        "row": row.name,
        "task": task,
        "seed": seed,
        "epochs": len(history),
        "oracle_best": best,
        "base_sha256": found.artifact.base.sha256,
        "settings": settings,
        "selectors": {
            name: {"epoch": r["epoch"], "accuracy": r["accuracy"], "behind": best - r["accuracy"]}
            for name, r in chosen.items()
        },
    }


def behind(results: Sequence[dict[str, Any]], name: str, row: str | None = None) -> list[float]:
    """Return the points each run loses by a selector."""
    return [r["selectors"][name]["behind"] for r in results if row in (None, r["row"])]


def summary(results: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the mean loss, every method weighing the same, the worst and the mean per method."""
    rows = list(dict.fromkeys(r["row"] for r in results))
    found = {}
    for name in results[0]["selectors"]:
        means = {row: statistics.mean(behind(results, name, row)) for row in rows}
        overall = {"mean": statistics.mean(means.values()), "worst": max(behind(results, name))}
        found[name] = overall | means
    return found


def markdown(results: Sequence[dict[str, Any]]) -> str:
    """Return the table: points of accuracy behind oracle-best."""
    found = summary(results)
    lines = [
        "| points behind oracle-best | oracle-best % | " + " | ".join(found) + " |",
        "|---|---|" + "---|" * len(found),
    ]
    keys = list(next(iter(found.values())))
    for row in [*keys[2:], *keys[:2]]:
        best = [r["oracle_best"] for r in results if r["row"] == row]
        title = {"mean": "**mean of the methods**", "worst": "worst single run"}.get(row, row)
        cells = [f"{statistics.mean(best):.1f}" if best else ""]
        cells += [f"{values[row]:.2f}" for values in found.values()]
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def picture(results: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw every run's loss, by selector and method, and the mean of the methods."""
    from matplotlib.figure import Figure

    found = summary(results)
    rows = list(dict.fromkeys(r["row"] for r in results))
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axis = figure.subplots()
    colors = ("#33506b", "#8aa0b4", "#2a7f4f", "#8cc0a3", "#c0392b", "#d9a441", "#6b4f8a")
    for number, row in enumerate(rows):
        shift = 0.7 * ((number + 0.5) / len(rows) - 0.5)
        points = [(i + shift, v) for i, n in enumerate(found) for v in behind(results, n, row)]
        x, y = zip(*points, strict=True)
        axis.plot(x, y, "o", markersize=4, color=colors[number % len(colors)], label=row)
    means = [values["mean"] for values in found.values()]
    axis.hlines(means, [i - 0.4 for i in range(len(means))], [i + 0.4 for i in range(len(means))],
                color="#222222", linewidth=1)  # fmt: skip
    labels = [f"{name}\n{mean:.2f}" for name, mean in zip(found, means, strict=True)]
    axis.set_xticks(range(len(found)), labels)
    axis.set_yscale("symlog", linthresh=2)
    axis.set_yticks([0, 1, 2, 5, 10, 20], ["0", "1", "2", "5", "10", "20"])
    axis.set_ylabel("points behind oracle-best (log above 2)")
    axis.set_xlabel("selector, and its mean over the methods")
    axis.set_ylim(-0.1, max(5.0, *(1.2 * max(behind(results, name)) for name in found)))
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", fontsize=8, frameon=False, ncols=4)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


@click.group(cls=UdaGroup, invoke_without_command=True)
@click.option("--task", "tasks", multiple=True, default=("f-h", "p-a", "c-r"), show_default=True)
@click.option("--seed", "seeds", type=int, multiple=True, default=(0, 1, 2), show_default=True)
@click.option("--method", "chosen", multiple=True, help="Only these methods; repeatable.")
@click.option(
    "--runs",
    type=click.Path(file_okay=False, path_type=Path),
    default="benchmarks/results/demo_accuracy/artifacts",
    show_default=True,
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default="benchmarks/results/selection",
    show_default=True,
)
@click.option("--threads", type=int, default=1, show_default=True)
def main(
    tasks: tuple[str, ...],
    seeds: tuple[int, ...],
    chosen: tuple[str, ...],
    runs: Path,
    out: Path,
    threads: int,
) -> None:
    """Compare the ways to choose an epoch."""
    import torch

    from adapt.methods import METHODS

    torch.set_num_threads(threads)
    rows = [row for row in ROWS if row.method in METHODS and (not chosen or row.method in chosen)]
    results: list[dict[str, Any]] = []
    for seed in seeds:
        for task in tasks:
            for row in rows:
                results.append(run(row, task, seed, runs))
                last = results[-1]["selectors"].items()
                losses = " ".join(f"{name} {found['behind']:.2f}" for name, found in last)
                click.echo(f"{task} seed {seed} {row.name}: behind oracle-best by {losses}")
        write_bytes(out / "table.md", markdown(results).encode())
        write_json(out / "table.json", {"summary": summary(results), "runs": results})
        picture(results, out / "selection.png")
    click.echo("\n" + markdown(results))


if __name__ == "__main__":
    main()
