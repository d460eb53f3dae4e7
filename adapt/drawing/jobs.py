"""Draw in child processes, with the same result however many run at once."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.progress import Progress

from adapt.child import ChildError, call
from runtime.errors import DataError
from runtime.storage.writing import scratch_folder


@dataclass(frozen=True)
class Job:
    """One call of a drawing function that returns a tuple of arrays."""

    function: str
    """`module:function`."""
    arguments: tuple[str | int, ...]
    images: int
    """Number of pictures it draws, for the progress bar."""


def run(jobs: list[Job], label: str, workers: int = 2) -> list[tuple[np.ndarray, ...]]:
    """Run every job and return the results in the order of the jobs.

    Args:
        jobs: Calls to run.
        label: Label of the progress bar on stderr.
        workers: Number of children that run at the same time.

    Raises:
        DataError: A child failed; the message ends with its last line.
    """
    console = Console(stderr=True)
    bar = Progress(console=console, transient=True, disable=not console.is_terminal)
    with scratch_folder("uda-draw") as folder, bar, ThreadPoolExecutor(workers) as pool:
        task = bar.add_task(label, total=sum(job.images for job in jobs))

        def finished(index: int) -> tuple[np.ndarray, ...]:
            job = jobs[index]
            try:
                result = call(job.function, job.arguments, folder / f"{index}.npz")
            except ChildError as error:
                raise DataError(
                    f"drawing with '{job.function}' {job.arguments} failed: {error}"
                ) from error
            bar.advance(task, job.images)
            return result

        return list(pool.map(finished, range(len(jobs))))
