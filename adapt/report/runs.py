"""Read finished runs for a report, and group them by task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adapt.artifacts import store
from adapt.artifacts.artifact import Artifact
from adapt.artifacts.metrics import Metrics
from adapt.data.harvest import MEMBER, verdict_of
from adapt.data.inventory import INVENTORY, line_of
from adapt.data.origin import IMAGES, Origin
from adapt.settings.stored import sources_of
from adapt.training.history import read_history
from adapt.training.record import EpochRow
from runtime import patch
from runtime.errors import FormatError
from runtime.models import BaseModel, Preprocess, TaskInfo
from runtime.storage.fields import build


@dataclass(frozen=True, eq=False)
class ReportedRun:
    """What a page shows of an artifact; its weights are not kept in memory."""

    label: str
    """Variant, with what tells it from others of its task."""
    path: Path
    """Path of the artifact."""
    task: TaskInfo
    method: str
    seed: int
    base: BaseModel
    preprocess: Preprocess
    metrics: Metrics
    config: Mapping[str, Any]
    sources: Mapping[str, Any] | None
    """Layer of each setting that is not the default; None if the artifact does not say."""
    origin: Origin | None
    inventory: str | None
    """Line on the images of training."""
    harvest: str | None
    """Line on how it compares on a harvest's frames, if it was adapted to one."""
    changed: int
    """Number of encoder parameters that training changed."""
    parameters: int
    """Number of all encoder parameters."""
    file_bytes: int
    versions: Mapping[str, str]
    history: tuple[EpochRow, ...]
    lost: str = ""
    """Reason for a missing history."""

    @property
    def density(self) -> float:
        """Share of the encoder's parameters that changed, in [0, 1]."""
        return self.changed / self.parameters

    @property
    def root(self) -> Path | None:
        """Root folder of the artifacts; None where the file lies elsewhere."""
        parts = self.path.parts[-4:]
        variant = store.variant(self.method, self.config)
        usual = (self.task.dataset, self.task.id, variant, store.FILE)
        return self.path.parents[3] if parts == usual else None

    @classmethod
    def read(cls, path: Path, label: str | None = None) -> ReportedRun:
        """Read an artifact, and the history beside it.

        Args:
            path: Path of the artifact.
            label: Name of the variant; None for the usual one.

        Raises:
            FormatError: The artifact is missing or damaged.
        """
        found = Artifact.load(path)
        history: list[EpochRow] = []
        lost = ""
        try:
            history = read_history(path.parent)
        except FormatError as error:
            lost = str(error)
        return cls(
            label=label or store.variant(found.method, found.config),
            path=path,
            task=found.task,
            method=found.method,
            seed=found.seed,
            base=found.base,
            preprocess=found.preprocess,
            metrics=build(Metrics, found.metrics, "metrics"),
            config=found.config,
            sources=sources_of(found.optional),
            origin=Origin.of(found.optional.get(IMAGES)),
            inventory=line_of(found.optional.get(INVENTORY)),
            harvest=verdict_of(found.optional.get(MEMBER)),
            changed=patch.size(found.residual),
            parameters=found.parameters,
            file_bytes=path.stat().st_size,
            versions=found.versions,
            history=tuple(history),
            lost=lost,
        )


def by_task(runs: Sequence[ReportedRun]) -> list[list[ReportedRun]]:
    """Return runs in groups that can be compared: one task, tested on the same images.

    The runs of a group have different labels, baselines first.
    """
    groups: dict[tuple[TaskInfo, str], list[ReportedRun]] = {}
    for run in runs:
        groups.setdefault((run.task, run.metrics.data.test), []).append(run)
    return [_labelled(group) for group in groups.values()]


def _labelled(runs: Sequence[ReportedRun]) -> list[ReportedRun]:
    """Return runs by label; seed, else folder, tells several of one variant apart."""
    runs = sorted(runs, key=lambda run: (not store.is_baseline(run.label), run.label, run.seed))
    tags: tuple[Callable[[ReportedRun], str], ...] = (_seed, _folder)
    for tag in tags:
        labels = Counter(run.label for run in runs)
        runs = [
            run if labels[run.label] == 1 else replace(run, label=f"{run.label}, {tag(run)}")
            for run in runs
        ]
    return list(runs)


def _seed(run: ReportedRun) -> str:
    return f"seed {run.seed}"


def _folder(run: ReportedRun) -> str:
    return str(run.path.parent)
