"""Train one task, unless another run or artifact is in the way.

A run writes into `ARTIFACTS/<dataset>/<task>/<variant>`: `artifact.safetensors`, `train.log`,
`metrics.jsonl` and `results.csv` (one line per epoch); while it is unfinished also
`checkpoint.safetensors` and, where the epoch is chosen by a score, `selected.safetensors`. While
it trains, it holds `train.lock`, which ends with its process; another training in the same folder
is refused.

A run that is refused before its first step changes nothing. An unfinished run is never thrown away
unasked: starting again needs `resume` (bit for bit as if it had never stopped on the CPU; on CUDA,
if its kernels are deterministic) or `restart`. A finished artifact stays until the new one
replaces it; one of other settings or images is replaced only with `restart`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from adapt import methods
from adapt.artifacts import store
from adapt.compute import parallel
from adapt.compute.device import exact_float32, select
from adapt.data import DomainPair
from adapt.settings.config import TrainConfig
from adapt.settings.limits import check_startable
from adapt.training import checkpoint
from adapt.training.identity import described
from adapt.training.journal import log_file
from adapt.training.loop import Earlier, Loop, Run
from runtime.console import echo
from runtime.errors import ConfigError, FormatError, UdaError
from runtime.storage import disk
from runtime.storage.files import no_empty_folder
from runtime.storage.locks import exclusive
from runtime.storage.writing import remove_leftovers


def train(
    name: str,
    pair: DomainPair,
    config: TrainConfig,
    *,
    out: Path,
    device: str = "cpu",
    resume: bool = False,
    restart: bool = False,
    show: bool = False,
    record: Mapping[str, Any] | None = None,
    option: str = "--artifacts",
) -> Run:
    """Adapt a base model to a task and write the artifact.

    Target labels are used for evaluation alone. The epoch is the last, or chosen without labels.

    Args:
        name: Name of the method, a key of `adapt.methods.METHODS`.
        pair: Images of the task.
        config: Settings, of the method's `Config` type.
        out: Root folder of the artifacts.
        device: `cpu`, `cuda` or `cuda:N`; under torchrun each process takes its own GPU.
        resume: Continue an unfinished run. A run that has finished with these settings is returned
            as it is; without any earlier run a new one starts.
        restart: Throw an unfinished run away, and replace an artifact of other settings.
        show: Show a progress bar on stderr.
        record: Sources of the settings, from `Settings.record`.
        option: Option that named the root folder, for messages.

    Raises:
        ConfigError: An unfinished run, or an artifact of other settings or images, is in the way,
            or another process trains in the same folder.
        UdaError: Settings, data, base model or device cannot be used, a loss is not finite, the
            disk is full, or the run was interrupted, after which it can be resumed.
    """
    chosen = select(device)
    check_startable(config, name, str(chosen))
    variant = store.variant(name, asdict(config))
    path = store.artifact_path(out, pair.task.dataset, pair.task.id, variant)
    unfinished = path.with_name(checkpoint.FILE)
    with _surroundings(path.parent, chosen, option) as (own, begin_log):
        waiting = _is_waiting(unfinished, resume or restart)
        loop = Loop(name, methods.get(name), pair, config, path, own, record)
        if not waiting and not restart and (done := _in_the_way(loop, resume, option)):
            if show and parallel.rank() == 0:
                then = "nothing is trained" if resume else "it is trained again (--resume keeps it)"
                echo(f"finished   a run with these settings and images was here: {then}", err=True)
            if resume:
                return done
        if restart:
            with suppress(FormatError):  # a damaged artifact may be replaced
                _check_same_domains(loop, loop.earlier(), option)

        def begin() -> None:
            if restart and parallel.rank() == 0:
                unfinished.unlink(missing_ok=True)
            begin_log()

        return loop(resume and waiting, show and parallel.rank() == 0, begin)


def _is_waiting(unfinished: Path, may: bool) -> bool:
    """Return whether there is an unfinished run; refuse it unless the user said what to do."""
    # All processes must find the same: the first may remove the file meanwhile.
    waiting = parallel.any_process(disk.exists(unfinished))
    if waiting and not may:
        raise ConfigError(
            f"'{unfinished.parent}' holds an unfinished run; add --resume to continue it, or "
            "--restart to throw it away"
        )
    return waiting


@contextmanager
def _surroundings(
    folder: Path, device: torch.device, option: str
) -> Iterator[tuple[torch.device, Callable[[], None]]]:
    """Set up a run: its processes, folder, lock, log, arithmetic and random numbers.

    Args:
        folder: Folder of the artifact.
        device: Device that was asked for.
        option: Option that named the root folder.

    Yields:
        This process's device, and the function to call when the run can no longer be refused.
    """
    cuda = [device] if device.type == "cuda" else []
    with (
        parallel.processes(device) as own,
        no_empty_folder(folder) if parallel.rank() == 0 else nullcontext(),
        _alone(folder, option),
        log_file(folder) if parallel.rank() == 0 else nullcontext(lambda: None) as begin_log,
        exact_float32(),
        torch.random.fork_rng(devices=cuda),
    ):
        yield own, begin_log


@contextmanager
def _alone(folder: Path, option: str) -> Iterator[None]:
    """Lock a folder against other trainings, from rank 0.

    Raises:
        ConfigError: Another process is training there.
        StorageError: The folder cannot be written.
    """

    def busy(holder: str) -> ConfigError:
        return ConfigError(
            f"{holder} is training in '{folder}'; wait until it ends, or choose another {option}"
        )

    is_first = parallel.rank() == 0
    # Some network disks have no locks: training needs none there.
    lock = exclusive(folder / store.LOCK, required=False, keep=False, busy=busy)
    refused: UdaError | None = None
    with ExitStack() as stack:
        try:
            if is_first:
                stack.enter_context(lock)
                remove_leftovers(folder)
        except UdaError as error:
            refused = error
        if parallel.any_process(refused is not None):
            raise refused or ConfigError(
                f"process 0 of this run cannot train in '{folder}'; its own message says why"
            )
        yield


def _in_the_way(loop: Loop, resume: bool, option: str) -> Run | None:
    """Return the finished run of the same settings and images that lies here, or None.

    Raises:
        ConfigError: A run with other settings or images has finished here.
        FormatError: The artifact to resume is damaged; without `resume` it may be replaced.
    """
    try:
        found = loop.earlier()
    except FormatError:
        if resume:
            raise
        return None
    if found is None:
        return None
    _check_same_domains(loop, found, option)
    done, different = found
    if different:
        raise ConfigError(
            f"'{done.path}' was trained with {described(different)}; add --restart to replace "
            f"it, or choose another {option}"
        )
    return done


def _check_same_domains(loop: Loop, earlier: Earlier | None, option: str) -> None:
    """Refuse to replace the artifact of other domains.

    Raises:
        ConfigError: Their names give the same task id, as `a b` and `a_b` do.
    """
    if earlier is None:
        return
    done = earlier[0]
    before, now = done.artifact.task, loop.pair.task
    if (before.source, before.target) != (now.source, now.target):
        raise ConfigError(
            f"'{done.path}' holds another task, '{before.source}' to '{before.target}', which has "
            f"the same id as '{now.source}' to '{now.target}'; choose another {option}, or "
            "rename a folder"
        )
