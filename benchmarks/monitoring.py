r"""Measure task choice, unknown frames, calibration, drift and harvests.

    python -m benchmarks.monitoring --unknown --json FILE.json --plot FILE.png
    python -m benchmarks.monitoring --harvest --model demo-rn32 --json FILE.json
    python -m benchmarks.monitoring --unknown --data emoji --pair google twitter \
        --pair twitter google --model demo-rn32 --json FILE.json

trains the demo's tasks, or those of own folders (`benchmarks.emoji`), for three seeds and two base
models; anew without three classes; or anew on 200 frames that another task chose. Each training
takes about 35 CPU seconds; a run that is there is not repeated. `--artifacts FOLDER`, repeated for
other seeds, looks at tasks of the demo that were trained before.

Statistics come from training images alone, through the files' precision; everything is measured on
test images. These were chosen on test images of the three tasks of seed 0 (demo-rn32): the number
of centres, the softness of their distance, the router's limits, and the constants of the CUSUM and
of the prior of temperatures. Seeds 1 and 2, demo-vit32 and own folders were not looked at
for any choice; but the images of the demo are the same for all seeds, and what looks through the
untouched base does not depend on a seed at all.

What a drawn world cannot show: the images of a domain come from one program, with one palette and
one way to draw a line, so a domain is recognised by its texture, and 24 pixel statistics without
any network tell the domains apart about as well as every feature. Real scenes differ by degrees: by
weather, lamps, dirt, the place of the camera. Foreign content here is as foreign as a digit among
photographs, a change of scene is complete, and streams are put together from independent images:
no video has been measured. 32 x 32 pixels and 96 features say little about the tails of 512. So a
rule that fails here will hardly do better outside; one that holds here must be measured again
where it is used.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks._monitoring_figures import Figure, summary, text
from benchmarks.switches import commit
from runtime.benchmark.latency import machine
from runtime.console import UdaGroup, write_json

MODELS = ("demo-rn32", "demo-vit32")


def measure(artifacts: list[Any], sets: Any, runs: Path, unknown: bool) -> tuple[list[Figure], Any]:
    """Return the figures of one seed's tasks, and the world that they were measured in.

    Args:
        artifacts: The tasks.
        sets: Their images.
        runs: Folder of tasks that are trained in addition.
        unknown: Whether to train every task without three classes.
    """
    from benchmarks import _monitoring_classes as classes
    from benchmarks import _monitoring_confidence as confidence
    from benchmarks import _monitoring_drift as drift
    from benchmarks import _monitoring_routing as routing
    from benchmarks import _monitoring_unknown as strange
    from benchmarks import _monitoring_world as worlds

    world = worlds.load(artifacts, sets)
    model, found = artifacts[0].config["model"], []
    table = routing.tasks_table(world)
    parts = {
        "routing": lambda: routing.measure(world, world.seed),
        "unknown": lambda: strange.measure(world, table, world.seed),
        "confidence": lambda: confidence.measure(world, world.seed),
        "drift": lambda: drift.measure(world, table, world.seed),
    }
    if unknown:
        parts["unknown classes"] = lambda: classes.measure(world, model, runs)
    for name, part in parts.items():
        found += part()
        click.echo(f"{model} seed {world.seed}: {name}", err=True)
    return found, world


def all_figures(
    groups: Sequence[list[Any]], sets: Any, runs: Path, unknown: bool
) -> list[dict[str, Any]]:
    """Return the figures of each seed's tasks.

    Args:
        groups: Artifacts, one group for each base model and seed.
        sets: Their images.
        runs: As for `measure`.
        unknown: As for `measure`.
    """
    from benchmarks import _monitoring_confidence as confidence

    found, logits, labels = [], defaultdict(list), {}
    for group in groups:
        figures, world = measure(group, sets, runs, unknown)
        model = group[0].config["model"]
        found.append({"model": model, "seed": world.seed, "figures": figures})
        for view in world.views:
            own = world.domains[view.own]
            logits[model, view.id].append(view.look(own.test)[1])
            labels[view.id] = own.labels
    for (model, task), each in logits.items():
        mine = [run for run in found if run["model"] == model]
        for position, run in enumerate(mine):
            run["figures"] += confidence.of_seeds(each, labels[task], task, position)
    return found


def harvested(groups: Sequence[list[Any]], sets: Any, runs: Path) -> list[dict[str, Any]]:
    """Return what tasks learn from harvested frames, for each seed's tasks."""
    from benchmarks import _monitoring_harvest as harvesting
    from benchmarks import _monitoring_world as worlds

    found = []
    for group in groups:
        model, world = group[0].config["model"], worlds.load(group, sets)
        figures = harvesting.measure(world, model, runs)
        found.append({"model": model, "seed": world.seed, "figures": figures})
        click.echo(f"{model} seed {world.seed}: harvest", err=True)
    return found


@click.group(cls=UdaGroup, invoke_without_command=True)
@click.option("--artifacts", multiple=True, type=click.Path(exists=True, path_type=Path))
@click.option("--task", "tasks", multiple=True, default=("f-h", "p-a", "c-r"), show_default=True)
@click.option("--seed", "seeds", type=int, multiple=True, default=(0, 1, 2), show_default=True)
@click.option("--model", "models", multiple=True, default=MODELS, show_default=True)
@click.option("--data", "root", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Own folders instead of the demo.")  # fmt: skip
@click.option("--pair", "pairs", nargs=2, multiple=True, metavar="SOURCE TARGET",
              help="Two of these folders.")  # fmt: skip
@click.option("--unknown", is_flag=True, help="Also train every task without three classes.")
@click.option("--harvest", is_flag=True, help="Only train tasks on harvested frames.")
@click.option("--runs", type=click.Path(file_okay=False, path_type=Path),
              default="benchmarks/results/monitoring", show_default=True)  # fmt: skip
@click.option("--threads", type=int, default=1, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path))
@click.option("--plot", type=click.Path(path_type=Path), help="Also draw the tables.")
def main(
    artifacts: tuple[Path, ...],
    tasks: tuple[str, ...],
    seeds: tuple[int, ...],
    models: tuple[str, ...],
    root: Path | None,
    pairs: tuple[tuple[str, str], ...],
    unknown: bool,
    harvest: bool,
    runs: Path,
    threads: int,
    json_file: Path | None,
    plot: Path | None,
) -> None:
    """Print the tables of each base model."""
    import torch

    from benchmarks import _monitoring_cost as cost
    from benchmarks import _monitoring_runs as trainer
    from benchmarks import _monitoring_sets as collections

    if (root is None) != (not pairs) or (root and artifacts):
        raise click.UsageError("--data goes with --pair, and with neither --artifacts nor --task")
    torch.set_num_threads(threads)
    sets = collections.Own(root, pairs) if root else collections.Demo(tasks)
    groups = [trainer.found(folder, tasks) for folder in artifacts] or [
        [trainer.trained(sets, model, task, seed, runs) for task in sets.tasks]
        for model in models
        for seed in seeds
    ]
    found = harvested(groups, sets, runs) if harvest else all_figures(groups, sets, runs, unknown)
    costs = [] if root or harvest else cost.measure(0)
    tables = {
        model: summary(
            [*(run for run in found if run["model"] == model), {"figures": costs}], targets=not root
        )
        for model in dict.fromkeys(run["model"] for run in found)
    }
    for model, rows in tables.items():
        show(model, rows, [run["seed"] for run in found if run["model"] == model], not root)
    if json_file:
        content = {"commit": commit(), "machine": machine(), "summary": tables}
        write_json(json_file, {**content, "runs": found, "cost": costs})
    if plot:
        from benchmarks._monitoring_plot import draw

        draw(tables, plot)


def show(model: str, rows: Sequence[dict[str, Any]], seeds: list[int], targets: bool) -> None:
    """Print the tables of a base model, and what they say of the targets."""
    from benchmarks import _monitoring_confidence as confidence

    click.echo(f"\n{model}, seeds {', '.join(map(str, seeds))}\n\n{text(rows)}\n")
    if any(row["table"] == "ECE, points" for row in rows):
        passed = ", ".join(confidence.passing(rows)) or "none"
        click.echo(f"Calibration without labels that passes: {passed}.")
    if targets:
        missed = [row["table"] for row in rows if not row.get("met", True)]
        click.echo(f"Targets that are not met: {'; '.join(missed) or 'none'}.")


if __name__ == "__main__":
    main()
