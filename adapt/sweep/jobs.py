"""List the runs of a sweep, and check that they can start."""

from __future__ import annotations

import contextlib
import json
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from adapt import data, methods
from adapt.artifacts import store
from adapt.data.folder import load_own
from adapt.progress import each_warning_once
from adapt.settings.config import TrainConfig
from adapt.settings.layers import Settings, resolve
from adapt.settings.limits import check_startable
from runtime.errors import ConfigError
from runtime.storage.files import sha256


@dataclass(frozen=True)
class OwnImages:
    """The user's own images of a task, in the folder of a job."""

    source: str
    """Labelled domain: a folder or a list file."""
    target: str
    """Unlabelled domain, likewise."""
    test: str | None = None
    """Other labelled images to test on, in the root or absolute."""


@dataclass(frozen=True)
class Job:
    """One run of a sweep, as a worker on any machine needs it."""

    method: str
    dataset: str
    task: str
    settings: Settings[TrainConfig]
    out: Path
    """Root folder of the artifacts of this seed."""
    device: str = "cpu"
    root: Path | None = None
    """Folder of the data set, where it needs one."""
    threads: int | None = None
    """CPU threads; None leaves the choice to torch."""
    own: OwnImages | None = None
    """The user's own images; None for a named data set."""
    restart: bool = False
    """Whether to train again what was trained before."""
    several: bool = False
    """Whether the sweep has several methods, so that messages name the variant too."""

    @property
    def config(self) -> TrainConfig:
        """Settings of the run, before its images are read."""
        return self.settings.config

    @property
    def path(self) -> Path:
        """Path of its artifact."""
        return store.artifact_path(self.out, self.dataset, self.task, self.variant)

    @property
    def variant(self) -> str:
        """Name of its method with what was added to it."""
        return store.variant(self.method, asdict(self.config))

    def __str__(self) -> str:
        variant = f" {self.variant}" if self.several else ""
        return f"{self.task}{variant} seed {self.config.seed}"

    def load(self) -> data.DomainPair:
        """Return the images of the run."""
        config = self.config
        if self.own is not None and self.root is not None:
            return load_own(
                self.root, self.own.source, self.own.target, self.own.test,
                holdout=config.holdout, seed=config.seed, target_classes=config.pair_classes,
            )  # fmt: skip
        return data.load(
            self.dataset, self.task, root=self.root, holdout=config.holdout, seed=config.seed,
            target_classes=config.pair_classes,
        )  # fmt: skip


@dataclass(frozen=True)
class Sweep:
    """The runs of a sweep."""

    jobs: tuple[Job, ...]

    @property
    def folder(self) -> Path:
        """Folder of the sweep: its seeds, each a root folder of artifacts, and its tables."""
        return self.jobs[0].out.parent


def plan(
    method: str,
    dataset: str,
    tasks: Sequence[str],
    seeds: Sequence[int],
    *,
    out: Path,
    settings: Sequence[str] = (),
    presets: Sequence[str] = (),
    device: str = "cpu",
    root: Path | None = None,
    threads: int | None = None,
    restart: bool = False,
    several: bool = False,
) -> Sweep:
    """Return the runs of a sweep, all tasks of a seed before the next seed.

    Args:
        method: Name of the method.
        dataset: Name of the data set.
        tasks: Task ids; none means those that papers report.
        seeds: Seeds of the runs.
        out: Folder below which the runs go.
        settings: Settings as `key=value`, as for `resolve`.
        presets: Names of presets, as for `resolve`.
        device: Device of each run, `cpu`, `cuda` or `cuda:N`.
        root: Folder of the data set.
        threads: CPU threads of each run.
        restart: Whether to train again what was trained before.
        several: Whether other methods are swept too.

    Raises:
        ConfigError: A setting is unknown, or a task or seed is given twice.
        DataError: There is no such data set.
        UdaError: No run could start with such settings, see `check_startable`.
    """
    cls, every = methods.get_config(method), data.tasks(dataset)
    chosen = tuple(tasks) or every
    for task in chosen:
        data.check_task(dataset, task)
    check_once(task=chosen, seed=seeds)
    resolved = {
        task: resolve(cls, dataset, method, [*settings, "seed=0"], task=task, presets=presets)
        for task in dict.fromkeys((*every, *chosen))
    }
    for task in chosen:
        check_startable(resolved[task].config, method, device)
    # Of all tasks, so that a sweep over some of them finds the same folder; without what is at its
    # default, so that a later version with more settings finds it too.
    text = json.dumps({task: resolved[task].changed() for task in every}, sort_keys=True)
    variant = store.variant(method, asdict(resolved[chosen[0]].config))
    folder = out / dataset / f"{variant}-{sha256(text.encode())[:8]}"
    return Sweep(tuple(
        Job(
            method, dataset, task, resolved[task].with_seed(seed),
            folder / f"seed{seed}", device, root, threads, restart=restart, several=several,
        )
        for seed in seeds
        for task in chosen
    ))  # fmt: skip


def check_once(**lists: Sequence[object]) -> None:
    """Check that each value of some lists is given once.

    Raises:
        ConfigError: One is given twice.
    """
    for name, values in lists.items():
        if twice := [value for value, count in Counter(values).items() if count > 1]:
            raise ConfigError(f"{name} '{twice[0]}' given twice; pass each {name} once")


def check(jobs: Iterable[Job], here: bool = True) -> None:
    """Check the requirements of all runs, before any of them trains.

    Args:
        jobs: Runs to check.
        here: Whether they will run on this machine, which must then have the device.

    Raises:
        UdaError: Images, base model, device or precision cannot be used.
    """
    jobs = list(jobs)
    by_task = {job.task: job for job in jobs}
    models = {(job.config.model, job.config.pretrained) for job in jobs}
    with each_warning_once():  # a domain is part of many tasks
        for job in by_task.values():
            job.load()
        # Torch takes seconds to import, so what needs it comes last.
        from adapt.clip import model as base_models
        from adapt.compute.device import select

        if here:
            for device in {job.device for job in by_task.values()}:
                select(device)
        for architecture, weights in sorted(models):
            base_models.load(architecture, weights)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drop warnings, which Python would print if no handler takes them."""
    logger, silence = logging.getLogger("adapt"), logging.NullHandler()
    logger.addHandler(silence)
    try:
        yield
    finally:
        logger.removeHandler(silence)
