"""`uda-adapt sweep`: run every task with every seed, and print the paper's table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from adapt.commands.hints import SettingsCommand
from adapt.commands.options import changed, device_option, setting_options
from adapt.registry import DATASETS
from runtime.console import UserPath, echo
from runtime.text import printable

if TYPE_CHECKING:
    from adapt.sweep.jobs import Job
    from adapt.sweep.run import Outcome


@click.command(cls=SettingsCommand, short_help="Run every task and seed, print a table.")
@click.option("--dataset", metavar="NAME", required=True, help=f"One of {', '.join(DATASETS)}.")
@click.option(
    "--data",
    metavar="ROOT",
    type=UserPath(exists=True, file_okay=False),
    help="Folder of the data set; the demo draws its own.",
)
@click.option(
    "--tasks",
    default="all",
    show_default=True,
    help="Tasks like a-c,a-p, or all tasks of the papers.",
)
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
    help="Runs and table go to OUT/<dataset>/<variant>-<digest of the settings>.",
)
def sweep(
    dataset: str,
    data: Path | None,
    method: str,
    tasks: str,
    seeds: str,
    rst: bool | None,
    density: str | None,
    grid: str | None,
    select: str | None,
    presets: tuple[str, ...],
    overrides: tuple[str, ...],
    device: str,
    threads: int | None,
    ray: str | None,
    workers: int | None,
    out: Path,
) -> None:
    """Run every task with every seed and print the paper's table.

    Run the same command again to continue: finished runs are not repeated, interrupted ones resume.
    """
    if workers is not None and ray != "local":
        raise click.UsageError(
            "--workers needs --ray without an address; a running cluster has its own workers"
        )
    from adapt.sweep import cluster
    from adapt.sweep.jobs import check, plan
    from runtime.errors import Interrupted

    jobs = plan(
        method, dataset, () if tasks == "all" else _list(tasks), _seeds(seeds), out=out,
        settings=changed(overrides, rst, density, grid, select), presets=presets,
        device=device, root=data, threads=threads,
    )  # fmt: skip
    if ray is not None:
        cluster.need_ray()
    try:
        check(jobs, here=ray in (None, "local"))
        _end(jobs, _follow(jobs, ray, workers))
    except KeyboardInterrupt as error:  # between two runs, or while the table is made
        raise Interrupted(
            "interrupted between two runs; run the same command again to continue"
        ) from error


def _list(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _seeds(text: str) -> list[int]:
    try:
        seeds = [int(part) for part in _list(text)]
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0:
        raise click.BadParameter(
            f"'{text}' is not a list of numbers like 0,1,2", param_hint="--seeds"
        )
    return seeds


def _follow(jobs: tuple[Job, ...], ray: str | None, workers: int | None) -> list[Outcome]:
    """Do all runs, show a progress bar, and return their outcomes."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeElapsedColumn as Elapsed

    from adapt.sweep import cluster
    from adapt.sweep.run import collect, in_turn

    screen = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Elapsed())
    done: list[Outcome] = []
    with Progress(*columns, console=screen, disable=not screen.is_terminal) as bar:
        line = bar.add_task("sweep", total=len(jobs))
        if ray is None:
            found = in_turn(jobs, lambda job: bar.update(line, description=str(job)))
        else:
            found = cluster.outcomes(jobs, ray, workers)
        for outcome in collect(found, len(jobs)):
            done.append(outcome)
            bar.update(line, completed=len(done))
            screen.print(printable(_line(outcome)), highlight=False, markup=False, soft_wrap=True)
    return done


def _line(outcome: Outcome) -> str:
    if outcome.error:
        return f"{outcome.job}: failed: {outcome.error}"
    seen = "no labels" if outcome.accuracy is None else f"{outcome.accuracy:.2f} % last epoch"
    if outcome.chosen is not None:
        seen = f"{outcome.chosen:.2f} % chosen epoch, {seen}"
    return f"{outcome.job}: {seen}{'' if outcome.fresh else ' (was there)'}"


def _end(jobs: tuple[Job, ...], outcomes: list[Outcome]) -> None:
    """Print and write the table.

    Raises:
        TrainingError: A run failed.
    """
    from adapt.sweep.report import Report
    from runtime.errors import TrainingError

    found = Report.of(jobs)
    if found.results:
        found.write(outcomes)
        folder = jobs[0].out.parent
        echo(f"{found.text()}\n\nwrote '{folder}/table.md' and '{folder}/table.json'")
    failed = [outcome for outcome in outcomes if outcome.error]
    for outcome in failed:
        echo(f"failed: {outcome.job}: {outcome.error}", err=True)
    if failed:
        raise TrainingError(
            f"{len(failed)} of {len(jobs)} runs failed, see above; run the same command again "
            "to repeat them alone"
        )
