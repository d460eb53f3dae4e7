"""`uda-adapt`: train, eval, inspect. Torch is imported inside the commands, so --help is quick."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from adapt import store
from adapt.methods import METHODS
from adapt.options import pair_loader, task_options, use_threads
from runtime.console import UdaGroup, bytes_text, table, write_json


@click.group(cls=UdaGroup)
@click.version_option(package_name="uda-edge")
def main() -> None:
    """Adapt CLIP's image encoder to an unlabelled domain."""


@main.command()
@task_options
@click.option("--method", type=click.Choice(sorted(METHODS)), default="cmkd", show_default=True)
@click.option("--rst/--no-rst", default=None, help="Keep the encoder's changes sparse.")
@click.option("--seed", type=click.IntRange(min=0), help="Of every random draw.  [default: 0]")
@click.option(
    "--set", "overrides", metavar="KEY=VALUE", multiple=True, help="Change a setting; repeatable."
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default="artifacts",
    show_default=True,
    help="Root folder; the artifact goes to OUT/<dataset>/<task>/<variant>.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with an unfinished run, with the result it would have had. A finished run is left "
    "as it is; without any run a new one starts.",
)
@click.option("--restart", is_flag=True, help="Throw an unfinished run away.")
def train(
    dataset: str | None,
    task: str | None,
    data: Path | None,
    source: str | None,
    target: str | None,
    device: str,
    threads: int | None,
    method: str,
    rst: bool | None,
    seed: int | None,
    overrides: tuple[str, ...],
    out: Path,
    resume: bool,
    restart: bool,
) -> None:
    """Adapt to one task and write its artifact.

    Target labels are never trained on. An existing artifact stays until the new one is whole.
    """
    if resume and restart:
        raise click.UsageError("--resume and --restart exclude each other")
    pair_of = pair_loader(dataset, task, data, source, target)
    from adapt import methods
    from adapt import train as training
    from adapt.config import load_config

    use_threads(threads)
    settings = list(overrides)
    settings += [] if rst is None else [f"rst={str(rst).lower()}"]
    settings += [] if seed is None else [f"seed={seed}"]
    config = load_config(methods.get(method).Config, dataset or "folder", method, settings)
    pair = pair_of(config.holdout, config.seed)
    run = training.train(
        method, pair, config, out=out, device=device, go_on=resume, restart=restart, show=True
    )
    last, best = run.artifact.metrics["last"], run.artifact.metrics["oracle_best"]
    where = "held-out" if pair.held_out else "the very"
    if last["accuracy"] is None:
        click.echo("accuracy   unknown: the target has no labels")
    else:
        click.echo(
            f"accuracy   {last['accuracy']:.2f} % last epoch, {best['accuracy']:.2f} % oracle-best "
            f"(epoch {best['epoch']}), mean per class {last['mean_per_class']:.2f} %"
        )
        seen = "" if pair.held_out else " it was adapted to"
        click.echo(
            f"           on {where} {run.artifact.metrics['test_images']} target images{seen}"
        )
    if run.skipped:
        log = run.path.with_name("train.log")
        click.echo(f"skipped    {run.skipped} unreadable images, see '{log}'")
    click.echo(f"density    {100 * run.artifact.density:.3f} % of the encoder changed")
    click.echo(f"artifact   {run.path} ({bytes_text(run.path.stat().st_size)})")


@main.command("eval")
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
    pair = pair_of(config.holdout, config.seed)
    files = store.variants(artifacts, pair.task.dataset, pair.task.id)
    if data and not files:  # its base is unknown, and nothing is fetched to find out
        store.find(artifacts, pair.task.id, pair.task.dataset)
    if files:  # judged on the images, the base and the prompts that training had
        settings = dict(Artifact.load(next(iter(files.values()))).config)
        pair = pair_of(settings["holdout"], settings["seed"])
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


@main.command()
@click.argument("artifact", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def inspect(artifact: Path) -> None:
    """Print what an artifact is."""
    from adapt.artifact import Artifact
    from runtime import patch

    found = Artifact.load(artifact)
    task, base, last = found.task, found.base, found.metrics["last"]
    accuracy = last["accuracy"]
    facts = {
        "task": f"{task.dataset} {task.id}: {task.source} -> {task.target}",
        "classes": f"{len(task.classes)}: {_some(task.classes)}",
        "method": f"{found.method}, seed {found.seed}",
        "base": f"{base.architecture}/{base.pretrained}, sha256 {base.sha256[:12]}...",
        "encoder": f"{patch.size(found.residual):,} of {found.parameters:,} weights changed "
        f"({100 * found.density:.3f} %)",
        "head": f"{found.head}, {sum(t.size for t in found.head_tensors.values()):,} numbers",
        "prompt": found.config["prompt"],
        "image": f"{found.preprocess.size} x {found.preprocess.size}, {found.preprocess.resize}",
        "accuracy": "target has no labels"
        if accuracy is None
        else f"{accuracy:.2f} % (epoch {last['epoch']}, the last), "
        f"{found.metrics['oracle_best']['accuracy']:.2f} % oracle-best",
        "versions": ", ".join(f"{name} {version}" for name, version in found.versions.items()),
        "file": bytes_text(artifact.stat().st_size),
    }
    for name, fact in facts.items():
        click.echo(f"{name:<10}{fact}")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
