"""Compare recipes for own images, given nothing but a folder, over several seeds.

    python -m benchmarks.own_data --data emoji --source google --target twitter --both --out results

trains every recipe in both directions with seeds 0 to 2 and prints the accuracy of the chosen, the
last and the oracle's epoch. A run that is there is not repeated. Defaults were chosen with this
script, on `benchmarks.emoji` and the demo's tasks, while looking at these accuracies.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.switches import commit
from runtime.benchmark.latency import machine
from runtime.console import table, write_json
from runtime.storage.writing import write_bytes

RESNET = ("model=demo-rn32", "pretrained=demo")
RECIPES: dict[str, tuple[str, tuple[str, ...]]] = {
    "zero-shot": ("zero_shot", ()),
    "linear probe": ("linear_probe", ()),
    "source only": ("source_only", ()),
    "UniMoS": ("unimos", ()),
    "EKDA": ("ekda", ("model=demo-vit32",)),
    "CMKD + RST": ("cmkd", ("rst=true",)),
    "CMKD + RST 0.5 %": ("cmkd", ("rst=true", "rst_density=0.005")),
    "CMKD + RST 1 %": ("cmkd", ("rst=true", "rst_density=0.01")),
    "CMKD + RST 2.5 %": ("cmkd", ("rst=true", "rst_density=0.025")),
    "CMKD + RST, FixMatch": ("cmkd", ("rst=true", "fixmatch=0.5")),
    "CMKD + RST 2.5 %, FixMatch": ("cmkd", ("rst=true", "rst_density=0.025", "fixmatch=0.5")),
    "CMKD + RST, a third of the rate": ("cmkd", ("rst=true", "lr=1e-4", "head_lr_multiplier=30.0")),
}


def run(recipe: str, root: Path, domains: tuple[str, str], seed: int, out: Path) -> dict[str, Any]:
    """Train one recipe, or read what it gave, and return every epoch's row."""
    from adapt import methods
    from adapt.data import load_folders
    from adapt.settings.layers import resolve
    from adapt.training.train import train

    name, own = RECIPES[recipe]
    file = out / f"{domains[0]}-{domains[1]}" / recipe / f"seed{seed}.json"
    if not file.exists():
        method, pair = methods.get(name), load_folders(root, *domains)
        settings = resolve(method.Config, "folder", name, [*RESNET, *own, f"seed={seed}"])
        config = settings.with_data(method.from_data, len(pair.source), len(pair.target)).config
        done = train(name, pair, config, out=file.parent / f"run{seed}", restart=True)
        text = done.path.with_name("metrics.jsonl").read_text()
        rows = [json.loads(line) for line in text.splitlines()]
        metrics = done.artifact.metrics
        chosen = metrics["selected"] or metrics["last"]
        found = {
            "chosen": chosen["accuracy"],
            "last": metrics["last"]["accuracy"],
            "oracle_best": metrics["oracle_best"]["accuracy"],
            "density": done.artifact.density,
            "bytes": done.path.stat().st_size,
            "rows": rows,
        }
        write_bytes(file, (json.dumps(found) + "\n").encode())
    result: dict[str, Any] = json.loads(file.read_text())
    return result


def summary(found: Sequence[dict[str, Any]]) -> list[str]:
    """Return means over seeds, and the spread of the chosen epoch's accuracy."""

    def mean(key: str) -> float:
        return statistics.mean(each[key] for each in found)

    values = [each["chosen"] for each in found]
    spread = f" +- {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return [
        f"{mean('chosen'):.1f}{spread}",
        *(f"{mean(key):.1f}" for key in ("last", "oracle_best")),
        f"{100 * mean('density'):.2f}",
        f"{mean('bytes') / 1000:.0f}",
    ]


@click.command()
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--source", required=True)
@click.option("--target", required=True)
@click.option("--both", is_flag=True, help="Also from target to source.")
@click.option("--seeds", default=3, show_default=True)
@click.option("--recipe", "recipes", multiple=True, type=click.Choice(list(RECIPES)))
@click.option("--threads", default=2, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Also write the figures."
)
def main(
    data: Path,
    source: str,
    target: str,
    both: bool,
    seeds: int,
    recipes: tuple[str, ...],
    threads: int,
    out: Path,
    json_file: Path | None,
) -> None:
    """Train the recipes and print a table per direction."""
    import torch

    torch.set_num_threads(threads)
    figures: list[dict[str, Any]] = []
    header = ("recipe", "chosen", "last", "oracle-best", "changed %", "kB")
    for domains in [(source, target), *([(target, source)] if both else [])]:
        rows = []
        for recipe in recipes or RECIPES:
            found = [run(recipe, data, domains, seed, out) for seed in range(seeds)]
            rows.append([recipe, *summary(found)])
            runs = [{k: v for k, v in each.items() if k != "rows"} for each in found]
            pair = {"source": domains[0], "target": domains[1]}
            figures.append(
                {**pair, "recipe": recipe, "settings": RECIPES[recipe][1], "seeds": runs}
            )
            click.echo(f"{domains[0]} -> {domains[1]}  {'  '.join(rows[-1])}", err=True)
        click.echo(f"\n{domains[0]} -> {domains[1]}, {seeds} seeds, accuracy in %\n")
        click.echo(table(header, rows))
    if json_file:
        write_json(json_file, {"commit": commit(), "machine": machine(), "runs": figures})


if __name__ == "__main__":
    main()
