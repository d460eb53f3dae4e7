"""Run a sweep on a Ray cluster, each run on one worker at a time.

A worker that dies loses the work since its last epoch: another worker resumes the run from its
checkpoint. All machines need the same folders: of the data, of the base model's
weights and of the results.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Generator, Sequence
from dataclasses import replace
from types import ModuleType

from adapt.sweep.jobs import Job
from adapt.sweep.run import Outcome, run
from runtime.errors import BackendError, Interrupted

LOCAL = "local"
RETRIES = 3
"""Number of workers that may die over one run."""
STORE = 100 * 2**20
"""Bytes of shared memory for a cluster on this machine; a run's result is a line of text."""
PATIENCE = 30.0
"""Seconds that workers have to save their runs when the sweep is stopped."""


def need_ray() -> ModuleType:
    """Return Ray.

    Raises:
        BackendError: Ray is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    try:
        import ray
    except ImportError as error:
        raise BackendError(
            "a sweep with --ray needs Ray, which is not installed; install it with the extra "
            "[ray], for example: pip install '.[adapt,ray]'; or leave --ray out"
        ) from error
    module: ModuleType = ray
    return module


def outcomes(jobs: Sequence[Job], address: str, workers: int | None) -> Generator[Outcome]:
    """Yield the outcomes of all runs, in whatever order they end.

    Args:
        jobs: Runs to do; on a GPU each gets one of its own.
        address: Address of a running cluster, `auto`, `HOST:PORT` or `ray://HOST:PORT`, or `local`
            for one on this machine that ends with the sweep.
        workers: Number of simultaneous runs on a local cluster; None means as many as it has
            GPUs, or CPUs for the threads of a run.

    Raises:
        BackendError: Ray is not installed, or there is no such cluster, or it has no GPU.
        Interrupted: The sweep was stopped.
    """
    ray = need_ray()
    gpus, threads = int(jobs[0].device.startswith("cuda")), jobs[0].threads or 1
    if ":" in jobs[0].device:
        raise BackendError(
            f"Ray chooses the GPU of each run, so the device cannot be '{jobs[0].device}'; pass "
            "--device cuda"
        )
    # Workers may start in another folder.
    jobs = [
        replace(job, out=job.out.absolute(), root=job.root and job.root.absolute()) for job in jobs
    ]
    _start(ray, address, None if workers is None else workers * threads)
    try:
        have = ray.cluster_resources()
        if gpus and not have.get("GPU"):
            raise BackendError(
                "the Ray cluster has no GPU, --device cuda needs one for each run; pass --device "
                "cpu, or another --ray ADDRESS"
            )
        # An interruption comes from outside, for example when a machine is taken away.
        task = ray.remote(
            num_cpus=threads, num_gpus=gpus, max_retries=RETRIES, retry_exceptions=[Interrupted]
        )(run)
        waiting = {task.remote(job): job for job in jobs}
        try:
            while waiting:
                ready, _ = ray.wait(list(waiting))
                for reference in ready:
                    yield _outcome(ray, reference, waiting.pop(reference))
        except KeyboardInterrupt as error:
            raise Interrupted(
                f"interrupted, {len(jobs) - len(waiting)} of {len(jobs)} runs are done; run the "
                "same command again to resume"
            ) from error
        finally:
            _stop(ray, list(waiting))
    finally:
        ray.shutdown()


def _start(ray: ModuleType, address: str, cpus: int | None) -> None:
    quiet = {"logging_level": "ERROR", "log_to_driver": False}
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    try:
        if colon:  # Ray itself would try for minutes
            socket.create_connection((host, int(port)), timeout=10).close()
        if address == LOCAL:
            ray.init(
                address=LOCAL, num_cpus=cpus, include_dashboard=False,
                object_store_memory=STORE, **quiet,
            )  # fmt: skip
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        line = str(error).strip().splitlines()
        raise BackendError(
            f"cannot reach a Ray cluster at '{address}': {line[0] if line else error!r}; start one "
            'with "ray start --head", or pass --ray alone for one on this machine'
        ) from error


def _outcome(ray: ModuleType, reference: object, job: Job) -> Outcome:
    try:
        found: Outcome = ray.get(reference)
    except ray.exceptions.RayError as error:
        kind, lines = type(error).__name__, str(error).strip().splitlines()
        message = f"given up after {RETRIES + 1} attempts: {kind}: {lines[0] if lines else ''}"
        return Outcome(job, error=message, kind=kind)
    return found


def _stop(ray: ModuleType, references: list[object]) -> None:
    """Let the workers save their runs."""
    with contextlib.suppress(Exception):
        for reference in references:
            ray.cancel(reference)
        if references:
            ray.wait(references, num_returns=len(references), timeout=PATIENCE)
