"""`uda-adapt sweep`: run every task, method and seed, and print a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adapt.commands.hints import SettingsCommand
from adapt.commands.image_options import data_option, test_option
from adapt.commands.options import changed, device_option, methods_option, setting_options
from adapt.commands.pages import no_images_option
from adapt.registry import DATASETS
from runtime.console import UserPath, echo
from runtime.storage import disk

LARGEST_SEED = 2**63 - 1

if TYPE_CHECKING:
    from adapt.sweep.jobs import Sweep
    from adapt.sweep.own import OwnSweep


@click.command(cls=SettingsCommand, short_help="Run every task and seed, print a table.")
@click.option("--dataset", metavar="NAME", help=f"One of {', '.join(DATASETS)}.")
@data_option
@click.option(
    "--tasks",
    default="all",
    show_default=True,
    help="Tasks of the data set, like a-c,a-p, or all tasks of the papers.",
)
@click.option(
    "--source",
    metavar="DOMAIN[,DOMAIN]",
    help="Labelled domains of your own images: folders or list files. Of several, each is paired "
    "with every other target.",
)
@click.option(
    "--target",
    metavar="DOMAIN[,DOMAIN]",
    help="Unlabelled domains of your own images, likewise.",
)
@test_option
@methods_option
@click.option("--seeds", default="0,1,2", show_default=True, help="Seeds of all random draws.")
@setting_options
@device_option
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads of each run.")
@click.option(
    "--ray",
    metavar="[ADDRESS]",
    is_flag=False,
    flag_value="local",
    help="Run on Ray: on this machine, or on the running cluster at auto or HOST:PORT.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Number of runs at once, for --ray without an address.",
)
@click.option(
    "--out",
    type=UserPath(file_okay=False),
    default="sweeps",
    show_default=True,
    help="Runs and tables go to OUT/<data set>/<name>-<digest of the settings>, each seed into "
    "its own folder of artifacts.",
)
@click.option("--restart", is_flag=True, help="Train again what was trained or begun before.")
@click.option(
    "--no-baselines",
    is_flag=True,
    help="On your own images, leave out zero-shot CLIP and the linear probe.",
)
@click.option(
    "--report/--no-report",
    default=None,
    help="Write a page with the table and the runs of the first seed: report.html in the sweep's "
    "folder. Default: for your own images.",
)
@no_images_option
def sweep(
    dataset: str | None,
    data: Path | None,
    tasks: str,
    source: str | None,
    target: str | None,
    test: str | None,
    method_names: tuple[str, ...],
    seeds: str,
    rst: bool | None,
    density: str | None,
    grid: str | None,
    select: str | None,
    overrides: tuple[str, ...],
    device: str,
    ray: str | None,
    workers: int | None,
    no_baselines: bool,
    report: bool | None,
    no_images: bool,
    **runs: Any,
) -> None:
    """Run every task with every method and seed, and print one table.

    For a paper's data set, it stands beside the published rows; for your own images, the methods
    stand beside zero-shot CLIP and a linear probe.

    Run the same command again to continue: finished runs are not repeated, interrupted ones resume.
    """
    if workers is not None and ray != "local":
        raise click.UsageError(
            "--workers needs --ray without an address; a running cluster has its own workers"
        )
    _check_usage(dataset, data, tasks, source, target, test, no_baselines)
    from adapt.commands.sweep_end import end
    from adapt.commands.sweep_progress import follow
    from adapt.sweep import cluster
    from adapt.sweep.jobs import check
    from runtime.errors import Interrupted

    settings = changed(overrides, rst, density, grid, select)
    runs |= {"seeds": _seeds(seeds), "settings": settings, "device": device}
    sweeps: Sequence[Sweep]
    if dataset is not None:
        sweeps = _of_papers(dataset, data, tasks, method_names, **runs)
    else:
        sweeps = [_of_own(data, source, target, test, method_names, not no_baselines, **runs)]
    jobs = [job for each in sweeps for job in each.jobs]
    if ray is not None:
        cluster.need_ray()
    here = ray in (None, "local")
    pages = dataset is None if report is None else report
    try:
        check(jobs, here=here)
        outcomes = follow(jobs, ray, workers)
        end(sweeps, outcomes, device if here else "cpu", pages, not no_images)
    except KeyboardInterrupt as error:  # between two runs, or while the table is made
        raise Interrupted(
            "interrupted between two runs; run the same command again to continue"
        ) from error


def _of_papers(
    dataset: str, root: Path | None, tasks: str, names: tuple[str, ...], **runs: Any
) -> list[Sweep]:
    """Return the runs of each method over a paper's data set."""
    from adapt.sweep.jobs import plan

    chosen, several = () if tasks == "all" else _list(tasks), len(names) > 1
    return [plan(name, dataset, chosen, root=root, several=several, **runs) for name in names]


def _of_own(
    data: Path | None,
    source: str | None,
    target: str | None,
    test: str | None,
    names: tuple[str, ...],
    baselines: bool,
    **runs: Any,
) -> OwnSweep:
    """Return the runs over own images, and print what they are."""
    from adapt.sweep.own import plan_own

    root = data or Path()
    domains = _domains(root, source), _domains(root, target)
    own = plan_own(names, root, *domains, test=test, baselines=baselines, **runs)
    _announce(own)
    return own


def _check_usage(
    dataset: str | None,
    data: Path | None,
    tasks: str,
    source: str | None,
    target: str | None,
    test: str | None,
    no_baselines: bool,
) -> None:
    """Refuse options that name no images, or do not go together."""
    if dataset is not None:
        own = {"--source": source, "--target": target, "--test": test}
        own["--no-baselines"] = "" if no_baselines else None
        if wrong := [name for name, value in own.items() if value is not None]:
            raise click.UsageError(
                f"{wrong[0]} is for your own images, --dataset {dataset} for a known data set"
            )
        return
    if data is None or not source or not target:
        raise click.UsageError(
            "say what to sweep: --dataset NAME, or your own images with --data ROOT --source "
            "DOMAIN --target DOMAIN[,DOMAIN]"
        )
    if tasks != "all":
        raise click.UsageError(
            f"--tasks {tasks} needs the --dataset that the tasks belong to; own images have "
            "--source and --target"
        )
    if test is not None and max(len(_domains(data, source)), len(_domains(data, target))) > 1:
        raise click.UsageError("--test is for one source and one target; sweep them one by one")


def _announce(own: OwnSweep) -> None:
    """Print the runs, the images of every task, and what is not for all methods."""
    variants = dict.fromkeys(job.variant for job in own.jobs)
    echo(f"runs       {len(own.jobs)}: {', '.join(variants)}; into '{own.folder}'")
    for task, pair in own.pairs.items():
        if pair.inventory:
            echo(f"images     {task}: {pair.inventory.line()}")
    for note in own.notes:
        echo(f"settings   {note}")


def _domains(root: Path, text: str | None) -> list[str]:
    """Return the domains of an option; a folder may have a comma in its name."""
    if text and disk.exists(root / text):
        return [text]
    return _list(text or "")


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _seeds(text: str) -> list[int]:
    try:
        seeds = [int(part) for part in _list(text)]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0 or max(seeds) > LARGEST_SEED:
        raise click.BadParameter(
            f"'{text[:80]}' is not a list of numbers like 0,1,2, each below 2^63",
            param_hint="--seeds",
        )
    return seeds
