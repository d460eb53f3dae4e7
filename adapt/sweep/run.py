"""Run the jobs of a sweep one after another, and give up if all fail."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from adapt import methods
from adapt.sweep.jobs import Job, quiet
from runtime.errors import Interrupted, StorageError, TrainingError, UdaError
from runtime.storage import disk
from runtime.storage.files import no_empty_folder
from runtime.storage.locks import exclusive
from runtime.storage.writing import write_bytes

LOCK = "sweep.lock"
FAILURE = "failure.txt"
ALIKE = 2
"""Number of first runs, and of tasks if there are several, that end a sweep if all fail with one
kind of error."""


@dataclass(frozen=True)
class Outcome:
    """The result of a run, or its error."""

    job: Job
    fresh: bool = False
    """Whether it was trained now, rather than found or failed."""
    accuracy: float | None = None
    """Accuracy of the last epoch in percent; None if it failed."""
    chosen: float | None = None
    """Accuracy of the epoch that a score without labels chose, in percent, if one did."""
    error: str | None = None
    kind: str = ""
    """Name of the error's class."""


def run(job: Job) -> Outcome:
    """Start, resume or find a run; every error but an interruption is part of the outcome.

    Raises:
        Interrupted: The run was stopped.
    """
    import torch

    from adapt.training.train import train

    if job.threads is not None:
        torch.set_num_threads(job.threads)
    try:
        with no_empty_folder(job.path.parent), exclusive(job.path.with_name(LOCK), keep=False):
            before = _written(job.path)
            with quiet():  # `check` has already warned of the images
                images = job.load()
            settings = job.settings.with_data(
                methods.get(job.method).from_data, len(images.source), len(images.target)
            )
            found = train(
                job.method, images, settings.config,
                out=job.out, device=job.device, resume=not job.restart, restart=job.restart,
                record=settings.record(), option="--out",
            )  # fmt: skip
            fresh = _written(job.path) != before
    except Interrupted as error:
        raise Interrupted(
            f"interrupted in {job}, everything is saved; run the same command again to resume"
        ) from error
    except UdaError as error:
        return Outcome(job, error=str(error), kind=type(error).__name__)
    except Exception as error:  # one run's bug must not cost the others' results
        note = job.path.with_name(FAILURE)
        see = f"see '{note}'"
        try:
            write_bytes(note, traceback.format_exc().encode(errors="backslashreplace"))
        except StorageError as full:
            see = f"its traceback is lost: {full}"
        message = f"{type(error).__name__}: {error}; {see}"
        return Outcome(job, error=message, kind=type(error).__name__)
    metrics = found.artifact.metrics
    chosen = (metrics.get("selected") or {}).get("accuracy")
    return Outcome(job, fresh, metrics["last"]["accuracy"], chosen)


def in_turn(jobs: Iterable[Job], begin: Callable[[Job], None]) -> Generator[Outcome]:
    """Yield the outcome of one run after the other; `begin` is called before each."""
    for job in jobs:
        begin(job)
        yield run(job)


def collect(outcomes: Generator[Outcome], total: int, tasks: int = 1) -> Iterator[Outcome]:
    """Yield outcomes, failures among them, and stop if the other runs must fail too.

    Args:
        outcomes: Outcomes as they come; closed at the end.
        total: Number of all outcomes.
        tasks: Number of tasks; the images of one may be bad, and those of others good.

    Raises:
        StorageError: A run could not write.
        TrainingError: The first runs all failed in one way.
    """
    kinds: list[str] = []
    tried: set[str] = set()
    with contextlib.closing(outcomes):
        for outcome in outcomes:
            yield outcome
            kinds.append(outcome.kind)
            tried.add(outcome.job.task)
            if outcome.kind == StorageError.__name__:
                raise StorageError(f"{outcome.job}: {outcome.error}")
            alike = outcome.error and len(set(kinds)) == 1 and ALIKE <= len(kinds) < total
            if alike and len(tried) >= min(ALIKE, tasks):
                raise TrainingError(
                    f"the first {len(kinds)} runs failed in the same way, so the others were not "
                    f"tried; {outcome.job}: {outcome.error}"
                )


def _written(path: Path) -> int:
    return path.stat().st_mtime_ns if disk.exists(path) else 0
