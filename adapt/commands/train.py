"""`uda-adapt train`: one task, one artifact."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import click

from adapt.artifacts import store
from adapt.commands.baselines import table_of
from adapt.commands.hints import SettingsCommand, export_command
from adapt.commands.image_options import check_named, pair_loader, task_options, test_option
from adapt.commands.options import BUDGETS, changed, setting_options, use_threads
from adapt.compute.rank import is_only_process, is_rank_zero, rank_zero_only
from runtime.console import bytes_text, count_of, table

if TYPE_CHECKING:
    from adapt.data import DomainPair
    from adapt.settings.config import TrainConfig
    from adapt.settings.layers import Settings
    from adapt.training.loop import Run


@click.command(cls=SettingsCommand, short_help="Adapt to one task.")
@task_options
@test_option
@setting_options
@click.option("--seed", type=click.IntRange(min=0), help="Of every random draw.  [default: 0]")
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
    help="Continue an unfinished run, with the result it would have had. A finished run is left as "
    "it is; without any run a new one starts.",
)
@click.option(
    "--restart",
    is_flag=True,
    help="Throw an unfinished run away, and replace an artifact of other settings or images.",
)
@click.option(
    "--show-settings",
    is_flag=True,
    help="Print every setting with its value and where it comes from; train nothing.",
)
@click.option(
    "--baselines/--no-baselines",
    default=True,
    show_default=True,
    help="Compare with zero-shot CLIP and a linear probe in the end.",
)
@rank_zero_only()
def train(
    dataset: str | None,
    task: str | None,
    data: Path | None,
    source: str | None,
    target: str | None,
    test: str | None,
    device: str,
    threads: int | None,
    method: str,
    rst: bool | None,
    density: str | None,
    grid: str | None,
    select: str | None,
    presets: tuple[str, ...],
    seed: int | None,
    overrides: tuple[str, ...],
    out: Path,
    resume: bool,
    restart: bool,
    show_settings: bool,
    baselines: bool,
) -> None:
    """Adapt to one task and write its artifact.

    Target labels are never trained on. An existing artifact stays until the new one is whole; one
    of other settings or images is replaced only with --restart.
    """
    if resume and restart:
        raise click.UsageError("--resume and --restart exclude each other")
    if test and not source:
        raise click.UsageError(
            "--test goes with images of your own, --source and --target; the data sets of papers "
            "have their own test images"
        )
    settings_only = show_settings and not (data or source or target)  # these need no images
    pair_of = None
    if not settings_only:
        pair_of = pair_loader(dataset, task, data, source, target, test)
    elif task and not dataset:
        raise click.UsageError(f"--task {task} needs the --dataset it belongs to")
    else:
        check_named(dataset, task)
    from adapt import methods
    from adapt.settings.layers import resolve
    from adapt.settings.limits import check_crops, check_passes, check_startable
    from runtime.errors import ConfigError

    settings = changed(overrides, rst, density, grid, select)
    settings += [] if seed is None else [f"seed={seed}"]
    resolved = resolve(
        methods.get_config(method),
        dataset or "folder",
        method,
        settings,
        task=task,
        presets=presets,
    )
    config = resolved.config
    check_startable(config, method, device)
    if pair_of is None:
        return _show(resolved)
    if test and config.holdout:
        raise ConfigError(
            f"--test gives test images, so a holdout of {config.holdout:g} would only take images "
            "away from training; pass --set holdout=0"
        )
    if importlib.util.find_spec("torch") is None:
        import torch  # noqa: F401  # reading the images takes a while, so say now what is missing
    pair = pair_of(config.holdout, config.seed, config.pair_classes)
    # Torch takes seconds to import: whatever can be refused without it has been.
    from adapt.settings.architectures import QUICKGELU, image_size
    from adapt.training import train as training

    use_threads(threads)
    cls = methods.get(method)
    resolved = resolved.with_data(cls.from_data, len(pair.source), len(pair.target))
    if show_settings:
        return _show(resolved)
    config = resolved.config
    if cls.trains and cls.uses_images:
        size = image_size(config.model.removesuffix(QUICKGELU))
        check_crops(resolved, size or config.train_size)
        check_passes(resolved, max(len(pair.source), len(pair.target)))
    if is_rank_zero():
        _announce(method, pair, config, out, resume)
    run = training.train(
        method, pair, config, out=out, device=device, resume=resume, restart=restart, show=True,
        record=resolved.record(),
    )  # fmt: skip
    if not is_rank_zero():
        return
    _report(run, pair, trains=cls.trains)
    if baselines and cls.trains and is_only_process():
        summary = table_of(pair, run, device, dataset)
        click.echo(f"\n{summary}")
    folder = run.path.parent
    following = export_command(pair.task.id, folder.name, out)
    click.echo(f"\nnext       {following}")


def _announce(method: str, pair: DomainPair, config: TrainConfig, out: Path, resume: bool) -> None:
    """Print what is about to be trained, and on which images."""
    from adapt.training.checkpoint import FILE as CHECKPOINT

    click.echo(f"run        {_run_line(method, pair, config)}")
    if pair.task.source == pair.task.target:
        click.echo(
            "supervised source and target are one domain: its labels are trained on, which is "
            "the bound and no adaptation"
        )
    if pair.inventory:
        click.echo(f"images     {pair.inventory.line()}")
    path = store.artifact_path(
        out, pair.task.dataset, pair.task.id, store.variant(method, vars(config))
    )
    if resume and not path.exists() and not path.with_name(CHECKPOINT).exists():
        click.echo(f"resume     nothing to resume in '{path.parent}'; a new run starts")


def _report(run: Run, pair: DomainPair, trains: bool) -> None:
    """Print what a run has reached and where its artifact is."""
    from adapt.artifacts.metrics import Metrics
    from runtime.storage.fields import build

    metrics = build(Metrics, run.artifact.metrics, "metrics")
    last, best, saved = metrics.last, metrics.oracle_best, metrics.saved
    if metrics.selected:
        click.echo(f"epoch      {saved.epoch}, chosen by {metrics.selected.by} without labels")
    if last.accuracy is None:
        click.echo("accuracy   unknown: the target has no labels")
    else:
        chosen_one = f"{saved.accuracy:.2f} % chosen epoch, " if metrics.selected else ""
        click.echo(
            f"accuracy   {chosen_one}{last.accuracy:.2f} % last epoch, {best.accuracy:.2f} % "
            f"oracle-best (epoch {best.epoch}), mean per class {saved.mean_per_class:.2f} %"
        )
        adapted_to = trains and not pair.held_out
        where = "held-out" if pair.held_out else "the very" if adapted_to else "the"
        seen = " it was adapted to" if adapted_to else ""
        click.echo(f"           on {where} {count_of(metrics.test_images, 'target image')}{seen}")
    if run.skipped:
        log = run.path.with_name("train.log")
        click.echo(f"skipped    {count_of(run.skipped, 'unreadable image')}, see '{log}'")
    click.echo(f"density    {100 * run.artifact.density:.3f} % of the encoder changed")
    click.echo(f"artifact   {run.path} ({bytes_text(run.path.stat().st_size)})")


def _show(settings: Settings[TrainConfig]) -> None:
    if is_rank_zero():
        click.echo(table(("setting", "value", "source"), settings.rows()))
        budget = settings.config.rst_density or "rst_density" in settings.auto
        if settings.config.rst and budget:
            click.echo(f"\nrst_density is a budget, --density: {BUDGETS}")


def _run_line(method: str, pair: DomainPair, config: TrainConfig) -> str:
    """Return what is trained, with the budget as a percentage: `0.1` is easily taken for one."""
    kind = store.variant(method, vars(config))
    share = 100 * config.rst_density
    budget = f", at most {share:.6g} % of the encoder's weights will change" if share else ""
    return f"{kind} on {pair.task.dataset} {pair.task.id}, seed {config.seed}{budget}"
