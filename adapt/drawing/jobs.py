"""Draw in child processes, with the same result however many run at once.

A child is a fresh interpreter with one drawing function to run, so it works from a script without
a `__main__` guard, beside torch's threads and on every platform, which a forked or spawned pool
does not.
"""

import importlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

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
            result = _in_child(jobs[index], folder / f"{index}.npz")
            bar.advance(task, jobs[index].images)
            return result

        return list(pool.map(finished, range(len(jobs))))


def _in_child(job: Job, out: Path) -> tuple[np.ndarray, ...]:
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    child = subprocess.run(
        [sys.executable, "-m", __name__, job.function, json.dumps(job.arguments), str(out)],
        env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    if child.returncode:
        said = child.stderr.strip().splitlines() or [f"exit status {child.returncode}"]
        raise DataError(f"drawing with '{job.function}' {job.arguments} failed: {said[-1]}")
    with np.load(out) as arrays:
        return tuple(arrays[name] for name in arrays.files)


def _child(function: str, arguments: str, out: str) -> None:
    module, name = function.split(":")
    arrays = getattr(importlib.import_module(module), name)(*json.loads(arguments))
    np.savez(out, *arrays)


if __name__ == "__main__":
    _child(*sys.argv[1:])
