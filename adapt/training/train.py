"""Training one task: what may start, and where it goes.

What a run leaves under `OUT/<dataset>/<task>/<variant>`: `artifact.safetensors`, `metrics.jsonl`
and `results.csv` (one line per epoch) and `train.log`; while it is unfinished also
`checkpoint.safetensors` and, where the epoch is chosen by a score, `selected.safetensors`. While it
goes on, `train.lock` says which process trains here, and another one is refused; the lock ends with
its process.

A run that is refused before its first step leaves nothing, and what lies there as it was. An
unfinished run is never thrown away unasked: starting again needs `resume` (continue, on the CPU
bit for bit as if never stopped; on CUDA as far as its kernels repeat themselves) or `restart`. A
finished artifact stays until the new one replaces it, which one of other settings or images does
only with `restart`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
from adapt.training.journal import log_file
from adapt.training.loop import Loop, Run
from runtime.errors import ConfigError, FormatError, UdaError
from runtime.storage.files import no_empty_folder
from runtime.storage.locks import exclusive

LOCK = "train.lock"
_SHOWN, _LONG = 3, 60
"""How many differences, and how many letters of a value, a message shows."""


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
) -> Run:
    """Adapt a base model to a task and write the artifact.

    Target labels are used for evaluation alone. What is saved are the weights of the last epoch, or
    of the one that `config.select` chooses without labels.

    Args:
        name: A key of `adapt.methods.METHODS`.
        pair: The images.
        config: Settings, of the method's `Config` type.
        out: Root folder of the artifacts.
        device: `cpu`, `cuda` or `cuda:N`; under torchrun each process takes its own GPU.
        resume: Continue an unfinished run. A run that has finished with these settings is returned
            as it is; without any earlier run a new one starts.
        restart: Throw an unfinished run away, and replace an artifact of other settings.
        show: Show a progress bar on stderr.
        record: Sources of the settings, to be kept in the artifact: `Settings.record`.

    Raises:
        ConfigError: An unfinished run, or an artifact of other settings or images, is in the way,
            or another process trains in the same folder.
        UdaError: Settings, data, base model or device are unusable, a loss is not finite, the disk
            is full, or the run was interrupted (it can then be continued).
    """
    torch_device = select(device)
    check_startable(config, name, str(torch_device))
    cls = methods.get(name)
    kind = store.variant(name, asdict(config))
    path = store.artifact_path(out, pair.task.dataset, pair.task.id, kind)
    folder = path.parent
    cuda = [torch_device] if torch_device.type == "cuda" else []
    with (
        parallel.processes(torch_device) as own,
        no_empty_folder(folder) if parallel.rank() == 0 else nullcontext(),
        _alone(folder),
        log_file(folder) if parallel.rank() == 0 else nullcontext(lambda: None) as begin_log,
        exact_float32(),
        torch.random.fork_rng(devices=cuda),
    ):
        # All processes must find the same: the first may remove the file meanwhile.
        waiting = parallel.any_process((folder / checkpoint.FILE).exists())
        if waiting and not resume and not restart:
            raise ConfigError(
                f"'{folder}' holds an unfinished run; add --resume to continue it, or --restart to "
                "throw it away"
            )
        run = Loop(name, cls, pair, config, path, own, record)
        if not waiting and not restart and (done := _in_the_way(run, resume)):
            return done
        if restart:
            with suppress(FormatError):  # a damaged artifact may be replaced
                if earlier := run.earlier():
                    _check_same_domains(run, earlier[0])

        def begin() -> None:
            if restart and parallel.rank() == 0:
                (folder / checkpoint.FILE).unlink(missing_ok=True)
            begin_log()

        return run(resume and waiting, show and parallel.rank() == 0, begin)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other trainings out of a folder; of several processes of one run, the first does.

    Raises:
        ConfigError: Another training is going on there.
        StorageError: The folder cannot be written.
    """

    def busy(holder: str) -> ConfigError:
        return ConfigError(
            f"{holder} is training in '{folder}'; wait until it ends, or choose another --out"
        )

    leads = parallel.rank() == 0
    # Where there are no locks, as on some network disks, training goes on without.
    lock = exclusive(folder / LOCK, required=False, keep=False, busy=busy)
    refused: UdaError | None = None
    with ExitStack() as stack:
        try:
            if leads:
                stack.enter_context(lock)
        except UdaError as error:
            refused = error
        if parallel.any_process(refused is not None):
            raise refused or ConfigError(
                f"process 0 of this run cannot train in '{folder}'; its own message says why"
            )
        yield


def _in_the_way(loop: Loop, resume: bool) -> Run | None:
    """Return the finished run that is to be left alone, if it is one, and replace no other.

    Raises:
        ConfigError: A run with other settings or images has finished here.
        FormatError: `resume`, and its artifact is damaged; otherwise it may be replaced.
    """
    try:
        found = loop.earlier()
    except FormatError:
        if resume:
            raise
        return None
    if found is None:
        return None
    done, different = found
    _check_same_domains(loop, done)
    if different:
        raise ConfigError(
            f"'{done.path}' was trained with {_differences(different)}; add --restart to replace "
            "it, or choose another --out"
        )
    return done if resume else None


def _check_same_domains(loop: Loop, done: Run) -> None:
    """Check that the artifact that lies here is of the domains that are to be trained.

    Raises:
        ConfigError: It is of others whose names make the same task id, like `a b` and `a_b`.
    """
    before, now = done.artifact.task, loop.pair.task
    if (before.source, before.target) != (now.source, now.target):
        raise ConfigError(
            f"'{done.path}' holds another task, '{before.source}' to '{before.target}', which has "
            f"the same id as '{now.source}' to '{now.target}'; choose another --out, or rename a "
            "folder"
        )


def _differences(different: Mapping[str, tuple[object, object]]) -> str:
    """Return the first differences for people; all others follow from settings."""
    settings = {
        k.removeprefix("config."): v for k, v in different.items() if k.startswith("config.")
    }
    parts = [f"{key} {_short(old)} (now {_short(new)})" for key, (old, new) in settings.items()]
    what = {
        "data": "images",
        "task": "domains or classes",
        "base": "base weights",
        "guides": "teacher",
    }
    kinds = dict.fromkeys(key.partition(".")[0] for key in different)
    parts = parts or [f"other {what.get(kind, kind)}" for kind in kinds if kind != "config"]
    more = f" and {len(parts) - _SHOWN} more differences" if len(parts) > _SHOWN else ""
    return ", ".join(parts[:_SHOWN]) + more


def _short(value: object) -> str:
    text = "unset" if value is None else str(value)
    return text if len(text) <= _LONG else f"{text[:_LONG]}..."
