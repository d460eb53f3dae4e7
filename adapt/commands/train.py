"""`uda-adapt train`: one task, one artifact."""

from __future__ import annotations

from pathlib import Path

import click

from adapt.methods import METHODS
from adapt.options import pair_loader, task_options, use_threads
from runtime.console import bytes_text


@click.command()
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
