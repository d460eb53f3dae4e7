"""Gather all that a page shows of one artifact."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from adapt.artifacts import store
from adapt.artifacts.reproduce import artifacts_option, export_command, image_options, train_command
from adapt.data import DomainPair
from adapt.evaluation.compare import Line
from adapt.evaluation.confusion import ClassLine
from adapt.evaluation.verdict import verdict
from adapt.report import cards
from adapt.report.album import Album
from adapt.report.cards import Cards
from adapt.report.comparison import VariantRow
from adapt.report.curves import Curve, curves
from adapt.report.matrix import Matrix, matrix
from adapt.report.reliability import Reliability, reliability
from adapt.report.runs import ReportedRun
from adapt.report.tasks import ReportedTask
from adapt.settings.layers import DEFAULT, shown
from runtime.console import count_of
from runtime.errors import StorageError
from runtime.text import shell_command

_OPEN = 20
"""Classes whose figures are shown at once; of more, half as many, the worst."""


@dataclass(frozen=True)
class Section:
    """Everything about one artifact."""

    anchor: str
    run: ReportedRun
    row: VariantRow
    verdict: str
    tested: str
    """Images that the accuracy was measured on."""
    curves: Sequence[Curve]
    reliability: Reliability | None
    matrix: Matrix | None
    worst: Sequence[ClassLine]
    """Figures of the classes that are shown at once, the lowest recall first."""
    others: Sequence[ClassLine]
    predicted: Sequence[tuple[str, int]]
    """Images by predicted class, where no label is known."""
    mistakes: Cards | None
    unsure: Cards | None
    settings: Sequence[tuple[str, str, str]]
    """Name, value and source of the settings that are not the default."""
    defaults: Sequence[tuple[str, str, str]]
    commands: Sequence[str]


def section(
    run: ReportedRun,
    row: VariantRow,
    line: Line | None,
    found: ReportedTask,
    album: Album,
    anchor: str,
) -> Section:
    """Return the section of an artifact.

    Args:
        run: The artifact.
        row: Its row in the comparison.
        line: Its evaluation; None if it was not evaluated.
        found: What is known of its task.
        album: Album to put the pictures into.
        anchor: Name of the section.
    """
    metrics = run.metrics
    best = metrics.oracle_best.epoch
    drawn = curves(run.history, metrics.saved.epoch, best) if len(run.history) > 1 else []
    settings = _settings(run)
    worst, others = _classes(line, run)
    chosen: tuple[Cards | None, Cards | None] = (None, None)
    if line is not None and found.pair is not None:
        test, background = found.pair.test, run.preprocess.background
        chosen = (
            cards.mistakes(line.predictions, test, album, background),
            cards.unsure(line.predictions, test, album, background),
        )
    return Section(
        anchor=anchor,
        run=run,
        row=row,
        verdict=_verdict(run, found.lines),
        tested=_tested(run, line, found.pair),
        curves=drawn,
        reliability=None if line is None or line.trust is None else reliability(line.trust),
        matrix=matrix(line.confusion) if line is not None and line.images else None,
        worst=worst,
        others=others,
        predicted=_predicted(line) if line is not None and not line.images else (),
        mistakes=chosen[0],
        unsure=chosen[1],
        settings=[setting for setting in settings if setting[2] != DEFAULT],
        defaults=[setting for setting in settings if setting[2] == DEFAULT],
        commands=_commands(run),
    )


def _verdict(run: ReportedRun, lines: Sequence[Line]) -> str:
    """Return whether a run beats the baselines; nothing of a baseline."""
    if run.harvest is not None:
        return run.harvest
    baselines = [one for one in lines if store.is_baseline(one.variant.partition(",")[0])]
    own = [one for one in lines if one.variant == run.label and one not in baselines]
    return verdict([*baselines, *own], run.label, run.config) if own and baselines else ""


def _tested(run: ReportedRun, line: Line | None, pair: DomainPair | None) -> str:
    """Return a description of the test images, and whether training saw them."""
    count, held_out = run.metrics.test_images, run.metrics.held_out
    if line is not None and pair is not None:
        count, held_out = len(line.predictions.positions), pair.held_out
    adapted = "" if held_out else " it was adapted to"
    return f"{count_of(count, 'held-out image' if held_out else 'image')}{adapted}"


def _classes(
    line: Line | None, run: ReportedRun
) -> tuple[Sequence[ClassLine], Sequence[ClassLine]]:
    """Return the figures of the classes with images: those to show at once, and the others."""
    if line is not None:
        every = line.confusion.lines() if line.images else []
    else:
        recalls = run.metrics.saved.per_class or {}
        every = [ClassLine(name, None, recall, None, None, 0) for name, recall in recalls.items()]
    present = [one for one in every if one.recall is not None]
    ordered = sorted(present, key=lambda one: (one.recall or 0.0, one.name))
    first = len(ordered) if len(ordered) <= _OPEN else _OPEN // 2
    return ordered[:first], ordered[first:]


def _predicted(line: Line) -> list[tuple[str, int]]:
    """Return how many images each class was predicted for, the most frequent first."""
    names = line.confusion.classes
    counts = np.bincount(line.predictions.classes[:, 0], minlength=len(names)).tolist()
    return sorted(zip(names, counts, strict=True), key=lambda pair: (-pair[1], pair[0]))


def _settings(run: ReportedRun) -> list[tuple[str, str, str]]:
    known = run.sources
    return [
        (key, shown(value), "unknown" if known is None else str(known.get(key, DEFAULT)))
        for key, value in run.config.items()
    ]


def _commands(run: ReportedRun) -> list[str]:
    """Return the commands that train, evaluate and export an artifact."""
    train = train_command(run.task, run.method, run.origin, run.config, run.sources, run.root)
    if run.root is None:
        return [train]
    words = ["uda-adapt", "eval", *image_options(run.task, run.origin)]
    commands = [train, shell_command([*words, *artifacts_option(run.root)])]
    with contextlib.suppress(StorageError):  # its root cannot be listed
        variant = store.variant(run.method, run.config)
        commands.append(export_command(run.task, variant, run.root))
    return commands
