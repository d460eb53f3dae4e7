"""`uda-adapt eval`: every trained variant of a task on the same images."""

from __future__ import annotations

from pathlib import Path

import click

from adapt import store
from adapt.options import pair_loader, task_options, use_threads
from runtime.console import table, write_json


@click.command("eval")
@task_options
@click.option(
    "--artifacts",
    type=click.Path(file_okay=False, path_type=Path),
    default="artifacts",
    show_default=True,
    help="Folder that `uda-adapt train` wrote.",
)
@click.option(
    "--pretrained",
    metavar="FILE",
    help="The base's weights, if they are not where training found them.",
)
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path))
def evaluate(
    dataset: str | None,
    task: str | None,
    data: Path | None,
    source: str | None,
    target: str | None,
    device: str,
    threads: int | None,
    artifacts: Path,
    pretrained: str | None,
    json_file: Path | None,
) -> None:
    """Compare zero-shot CLIP with every trained variant of a task.

    "last" is the artifact's accuracy, measured now. "oracle-best" is the epoch that the test labels
    would have chosen: what papers print, and what you cannot have without labels.
    """
    if task is not None and dataset is None and data is None:
        dataset = store.dataset_of(artifacts, task)
    pair_of = pair_loader(dataset, task, data, source, target)
    from adapt import compare, methods
    from adapt.artifact import Artifact
    from adapt.config import load_config
    from adapt.device import select

    select(device)
    use_threads(threads)
    config = load_config(methods.get("zero_shot").Config, dataset or "folder", "zero_shot", [])
    settings = dict(vars(config))
    pair = pair_of(config.holdout, config.seed, config.pair_classes)
    files = store.variants(artifacts, pair.task.dataset, pair.task.id)
    if data and not files:  # its base is unknown, and nothing is fetched to find out
        store.find(artifacts, pair.task.id, pair.task.dataset)
    if files:  # judged on the images, the base and the prompts that training had
        settings = dict(Artifact.load(next(iter(files.values()))).config)
        partial = settings["target_classes"] if settings["partial"] else None
        pair = pair_of(settings["holdout"], settings["seed"], partial)
    lines = compare.compare(pair, files, settings, device, pretrained)
    judged = (
        f"accuracy on {'held-out' if pair.held_out else 'the very'} {lines[0].images} target images"
        f"{'' if pair.held_out else ' it was adapted to'}"
        if lines[0].images
        else "no accuracy: the target has no labels"
    )
    click.echo(f"{pair.task.dataset} {pair.task.id}: {judged}\n")
    click.echo(table(compare.HEADER, compare.rows(lines)))
    if json_file:
        document = {"dataset": pair.task.dataset, "task": pair.task.id, "held_out": pair.held_out}
        write_json(json_file, document | {"variants": [line.as_dict() for line in lines]})
