"""Gather what a report shows of a task: its images, its runs, and their comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from adapt.artifacts.artifact import Artifact
from adapt.data import DATASETS, DomainPair
from adapt.data.inspection.repeats import warnings
from adapt.evaluation import compare
from adapt.evaluation.compare import Line
from adapt.evaluation.remembered import training_images
from adapt.evaluation.stored import PROBE, ZERO_SHOT, zero_shot_settings
from adapt.report.runs import ReportedRun
from adapt.training.probe import with_probe
from runtime.console import ProgressCallback
from runtime.errors import Interrupted, UdaError
from runtime.models import TaskInfo


@dataclass(frozen=True, eq=False)
class ReportedTask:
    """One task of a page."""

    task: TaskInfo
    runs: Sequence[ReportedRun]
    pair: DomainPair | None = None
    """Images of the task; None where they were not found, or not looked for."""
    lines: Sequence[Line] = ()
    """Comparison of the runs and the baselines; runs without a line were not evaluated."""
    missing: str = ""
    """Reason why runs were not evaluated; empty if all were, or if nobody asked for it."""
    notes: Sequence[str] = ()
    """Warnings about the images."""
    story: str = ""
    """Sentence about the task, for the page alone."""


def from_comparison(
    pair: DomainPair, files: Mapping[str, Path], lines: Sequence[Line]
) -> ReportedTask:
    """Return a task that was just evaluated.

    Args:
        pair: Images of the task.
        files: Artifacts that get a section, by variant.
        lines: Comparison of these and the baselines.

    Raises:
        FormatError: An artifact is damaged.
    """
    runs = [ReportedRun.read(path, label) for label, path in files.items()]
    return ReportedTask(pair.task, runs, pair, lines, notes=image_notes(pair, lines))


def without_evaluation(runs: Sequence[ReportedRun]) -> ReportedTask:
    """Return a task with what its artifacts say alone.

    Args:
        runs: Runs of one task.
    """
    return ReportedTask(runs[0].task, runs)


def evaluated(
    runs: Sequence[ReportedRun],
    *,
    root: Path | None = None,
    device: str = "cpu",
    pretrained: str | None = None,
    on_progress: ProgressCallback = lambda what, done, total: None,
) -> ReportedTask:
    """Evaluate the runs of a task and its baselines on the test images of training.

    Predictions that an earlier evaluation kept are reused. If something is missing, the result has
    what was evaluated before, and the reason.

    Args:
        runs: Runs of one task, tested on the same images.
        root: Folder of the data set; None takes the one that the artifacts name.
        device: Device to compute on.
        pretrained: Weights of the bases, if they have moved since training.
        on_progress: Progress callback.

    Raises:
        Interrupted: Ctrl-C came; what was predicted is kept.
    """
    task, lines, missing, pair = runs[0].task, list[Line](), "", None
    try:
        first = Artifact.load(next((r for r in runs if r.label == ZERO_SHOT), runs[0]).path)
        pair, _ = training_images(first, root)
        dataset = task.dataset if task.dataset in DATASETS else None
        settings = {**first.config, **({"pretrained": pretrained} if pretrained else {})}
        files = {run.label: run.path for run in runs}
        baselines: AbstractContextManager[Mapping[str, Path]] = nullcontext(files)
        if not any(run.method == PROBE for run in runs):  # a sweep has one of each seed
            on_progress(f"{task.id}: linear probe", 0, 1)
            baselines = with_probe(pair, files, settings, device, dataset)
        with baselines as all_files:
            zero_shot = zero_shot_settings(dataset, first)
            for line in compare.lines(
                pair, all_files, zero_shot, device, pretrained, reuse=True, on_progress=on_progress
            ):
                lines.append(line)
    except Interrupted as error:
        raise Interrupted(
            "interrupted; finished predictions are kept, run the same command again to continue"
        ) from error
    except UdaError as error:
        missing = f"not evaluated: {error}"
    return ReportedTask(task, runs, pair, lines, missing, image_notes(pair, lines))


def image_notes(pair: DomainPair | None, lines: Sequence[Line]) -> list[str]:
    """Return warnings about the images of a task: unreadable ones, copies in training and test.

    Args:
        pair: Images of the task.
        lines: Evaluation of its test images.
    """
    if pair is None:
        return []
    found = []
    if lines and (lost := len(pair.test) - len(lines[0].predictions.positions)):
        readable = set(lines[0].predictions.positions.tolist())
        first = next(i for i in range(len(pair.test)) if i not in readable)
        found.append(
            f"{lost:,} of {len(pair.test):,} test images cannot be read and are left out, the "
            f"first: '{pair.test.paths[first]}'"
        )
    try:
        return found + warnings(pair)
    except UdaError as error:
        return [*found, str(error)]
