"""Run the jobs of a sweep under a progress bar."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from runtime.text import printable

if TYPE_CHECKING:
    from adapt.sweep.jobs import Job
    from adapt.sweep.run import Outcome


def follow(jobs: Sequence[Job], ray: str | None, workers: int | None) -> list[Outcome]:
    """Run all jobs under a progress bar, and return their outcomes.

    Args:
        jobs: Runs to do.
        ray: Address of a Ray cluster; None does one run after the other.
        workers: Number of runs at once, on Ray on this machine.

    Raises:
        TrainingError: The first runs all failed in one way, or the sweep was interrupted.
        StorageError: A run could not write.
        BackendError: The cluster does not exist.
    """
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
        for outcome in collect(found, len(jobs), len({job.task for job in jobs})):
            done.append(outcome)
            bar.update(line, completed=len(done))
            screen.print(printable(_line(outcome)), highlight=False, markup=False, soft_wrap=True)
    return done


def _line(outcome: Outcome) -> str:
    from adapt.evaluation.stored import ZERO_SHOT

    if outcome.error:
        return f"{outcome.job}: failed: {outcome.error}"
    seen = "no labels" if outcome.accuracy is None else f"{outcome.accuracy:.2f} %"
    if outcome.accuracy is not None and outcome.job.method != ZERO_SHOT:
        seen += " last epoch"
    if outcome.chosen is not None:
        seen = f"{outcome.chosen:.2f} % chosen epoch, {seen}"
    return f"{outcome.job}: {seen}{'' if outcome.fresh else ' (already finished)'}"
