"""`uda-adapt train`: adapt to one task and write its artifact."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adapt.artifacts import store
from adapt.commands.baselines import with_baselines
from adapt.commands.hints import SettingsCommand
from adapt.commands.image_options import check_named, pair_loader, task_options, test_option
from adapt.commands.options import (
    BUDGETS,
    artifacts_option,
    changed,
    method_option,
    setting_options,
    use_threads,
)
from adapt.commands.pages import no_images_option, page_option, write_page
from adapt.commands.train_summary import report_run
from adapt.compute.rank import is_only_process, is_rank_zero, rank_zero_only
from runtime.console import echo, table
from runtime.storage import disk

if TYPE_CHECKING:
    from adapt.data import DomainPair
    from adapt.evaluation.compare import Line
    from adapt.methods.base import Method
    from adapt.settings.config import TrainConfig
    from adapt.settings.layers import Settings
    from adapt.training.loop import Run


@click.command(cls=SettingsCommand, short_help="Adapt to one task.")
@task_options
@test_option
@method_option
@setting_options
@click.option("--seed", type=click.IntRange(min=0), help="Seed of all random draws.  [default: 0]")
@artifacts_option("Root folder; the artifact goes to ARTIFACTS/<dataset>/<task>/<variant>.")
@click.option(
    "--resume",
    is_flag=True,
    help="Continue an unfinished run, with the result it would have had. A finished run is left as "
    "it is; without any run a new one starts.",
)
@click.option(
    "--restart",
    is_flag=True,
    help="Throw away an unfinished run, and replace an artifact of other settings or images.",
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
    help="Finally compare with zero-shot CLIP and a linear probe.",
)
@page_option("beside the artifact")
@no_images_option
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
    presets: tuple[str, ...],
    seed: int | None,
    artifacts: Path,
    resume: bool,
    restart: bool,
    show_settings: bool,
    baselines: bool,
    page: Path | None,
    no_images: bool,
    **given: Any,
) -> None:
    """Adapt to one task and write its artifact.

    Target labels are never trained on. An artifact stays until the new one is whole; one of other
    settings or images is replaced only with --restart.
    """
    _check_usage(resume, restart, test, source)
    pair_of = None
    if show_settings and not (data or source or target):  # these settings need no images
        _check_known(dataset, task)
    else:
        pair_of = pair_loader(dataset, task, data, source, target, test)
    from adapt import methods
    from adapt.artifacts.harvest import refusal
    from adapt.artifacts.reproduce import export_command
    from adapt.data.harvest import of_pair
    from adapt.settings.layers import resolve
    from adapt.settings.limits import check_startable
    from runtime.errors import ConfigError

    settings = changed(**given) + ([] if seed is None else [f"seed={seed}"])
    config = methods.get_config(method)
    resolved = resolve(config, dataset or "folder", method, settings, task=task, presets=presets)
    check_startable(resolved.config, method, device)
    if not pair_of:
        return _show(resolved)
    pair, cls = _read(pair_of, resolved.config, test), methods.get(method)
    use_threads(threads)
    resolved = resolved.with_data(cls.from_data, len(pair.source), len(pair.target))
    if show_settings:
        return _show(resolved)
    harvest = of_pair(pair) if cls.trains else None
    if harvest and not is_only_process():
        raise ConfigError(
            "a run on a harvest is compared with the old task at its end, which torchrun's "
            "processes do not share; start `uda-adapt train` without torchrun"
        )
    run = _train(method, cls, pair, resolved, artifacts, device, resume, restart)
    if is_rank_zero():
        report_run(run, pair, trains=cls.trains)
        probe = baselines and cls.trains
        lines: Sequence[Line] = ()
        if (probe or page or harvest) and is_only_process():
            lines = with_baselines(pair, run, device, dataset, probe=probe, harvest=harvest)
        folder = run.path.parent
        refused = harvest and refusal(run.path)
        if not refused:
            echo(f"\nnext       {export_command(pair.task, folder.name, artifacts)}")
        if page:
            write_page(page, folder, pair, {folder.name: run.path}, lines, not no_images)
        if refused:
            raise refused


def _check_usage(resume: bool, restart: bool, test: str | None, source: str | None) -> None:
    if resume and restart:
        raise click.UsageError("--resume and --restart exclude each other")
    if test and not source:
        raise click.UsageError(
            "--test needs images of your own, --source and --target; the data sets of papers have "
            "their own test images"
        )


def _check_known(dataset: str | None, task: str | None) -> None:
    """Refuse an unknown data set or task, or a task without its data set."""
    if task and not dataset:
        raise click.UsageError(f"--task {task} needs the --dataset it belongs to")
    check_named(dataset, task)


def _read(pair_of: Callable[..., DomainPair], config: TrainConfig, test: str | None) -> DomainPair:
    """Return a task's images, after every check that does not need them."""
    from runtime.errors import ConfigError

    if test and config.holdout:
        raise ConfigError(
            f"--test gives test images, so a holdout of {config.holdout:g} would only take images "
            "away from training; pass --set holdout=0"
        )
    if importlib.util.find_spec("torch") is None:
        import torch  # noqa: F401  # reading the images takes a while, so say now what is missing
    return pair_of(config.holdout, config.seed, config.pair_classes)


def _train(
    method: str,
    cls: type[Method],
    pair: DomainPair,
    resolved: Settings[TrainConfig],
    root: Path,
    device: str,
    resume: bool,
    restart: bool,
) -> Run:
    """Check the settings that depend on the images, print them, and train."""
    from adapt.settings.limits import check_data
    from adapt.training import train as training

    config = resolved.config
    if cls.trains:
        check_data(resolved, len(pair.source), len(pair.target), uses_images=cls.uses_images)
    if is_rank_zero():
        _announce(method, pair, config, root, resume)
    return training.train(
        method, pair, config, out=root, device=device, resume=resume, restart=restart, show=True,
        record=resolved.record(),
    )  # fmt: skip


def _announce(method: str, pair: DomainPair, config: TrainConfig, root: Path, resume: bool) -> None:
    """Print a summary of the run, and its images."""
    from adapt.training.checkpoint import FILE as CHECKPOINT

    echo(f"run        {_summary(method, pair, config)}")
    if pair.task.source == pair.task.target:
        echo(
            "supervised source and target are the same domain: training on its labels gives the "
            "upper bound of adaptation"
        )
    if pair.inventory:
        echo(f"images     {pair.inventory.line()}")
    path = store.artifact_path(
        root, pair.task.dataset, pair.task.id, store.variant(method, vars(config))
    )
    if resume and not disk.exists(path) and not disk.exists(path.with_name(CHECKPOINT)):
        echo(f"resume     nothing to resume in '{path.parent}'; a new run starts")


def _show(settings: Settings[TrainConfig]) -> None:
    if is_rank_zero():
        echo(table(("setting", "value", "source"), settings.rows()))
        budget = settings.config.rst_density or "rst_density" in settings.auto
        if settings.config.rst and budget:
            echo(f"\nrst_density is a budget, --density: {BUDGETS}")


def _summary(method: str, pair: DomainPair, config: TrainConfig) -> str:
    """Return a summary of the run; the budget in percent, since `0.1` is easily misread."""
    kind = store.variant(method, vars(config))
    share = 100 * config.rst_density
    budget = f", at most {share:.6g} % of the encoder's weights will change" if share else ""
    return f"{kind} on {pair.task.dataset} {pair.task.id}, seed {config.seed}{budget}"
