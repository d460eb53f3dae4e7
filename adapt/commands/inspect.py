"""`uda-adapt inspect`: show what an artifact holds."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from adapt.artifacts import store
from runtime.console import UserPath, bytes_text, count_of, echo, table
from runtime.errors import FormatError, TaskError
from runtime.storage import disk
from runtime.text import printable, shell_command

if TYPE_CHECKING:
    from adapt.artifacts.artifact import Artifact
    from adapt.artifacts.metrics import Metrics

_WIDTH = 100
"""Longest line of class names."""
_LISTED = 8
"""Number of artifacts below a folder that a message lists."""


@click.command(short_help="Show what an artifact holds.")
@click.argument("artifact", type=UserPath(exists=True))
def inspect(artifact: Path) -> None:
    """Show what an artifact holds, given its file or the folder that training wrote it to.

    That is: task, classes, base model and accuracies, the images that were taken and left out,
    every setting with its source, and the losses of every epoch.
    """
    artifact = _file(artifact) if disk.is_folder(artifact) else artifact
    from adapt.artifacts.artifact import Artifact
    from adapt.artifacts.metrics import Metrics
    from adapt.commands.run_tables import settings_table
    from adapt.settings.stored import sources_of
    from runtime.storage.fields import build

    found = Artifact.load(artifact)
    metrics = build(Metrics, found.metrics, "metrics")
    size = bytes_text(artifact.stat().st_size)
    for name, text in {**_lines(found, metrics), "file": size}.items():
        echo(f"{name:<10}{printable(text)}")
    echo("\n" + _classes(found.task.classes))
    _show_images(found)
    echo("\n" + settings_table(found.config, sources_of(found.optional)))
    _show_epochs(artifact.parent, metrics)


def _lines(found: Artifact, metrics: Metrics) -> dict[str, str]:
    """Return what an artifact is, a line by name."""
    from runtime import patch

    task, base, saved, chosen = found.task, found.base, metrics.saved, metrics.selected
    accuracy = "unknown, the target has no labels"
    if saved.accuracy is not None:
        accuracy = (
            f"{saved.accuracy:.2f} %, {metrics.last.accuracy:.2f} % last epoch, "
            f"{metrics.oracle_best.accuracy:.2f} % oracle-best (epoch {metrics.oracle_best.epoch})"
        )
    held_out = "held-out " if metrics.held_out else ""
    return {
        "task": f"{task.dataset} {task.id}: {task.source} -> {task.target}",
        "method": f"{found.method}, seed {found.seed}",
        "base": f"{base.architecture}/{base.pretrained}, sha256 {base.sha256[:12]}...",
        **({"model": found.architecture.summary} if found.architecture else {}),
        "encoder": f"{patch.size(found.residual):,} of {found.parameters:,} weights changed "
        f"({100 * found.density:.3f} %)",
        "head": f"{found.head}, {sum(t.size for t in found.head_tensors.values()):,} numbers",
        "prompt": found.config["prompt"],
        "image": f"{found.preprocess.size} x {found.preprocess.size}, {found.preprocess.resize}",
        "epoch": f"{saved.epoch}, {f'chosen by {chosen.by}' if chosen else 'the last'}",
        "accuracy": accuracy,
        "tested": f"on {count_of(metrics.test_images, f'{held_out}image')}",
        **_watching(found),
        "versions": ", ".join(f"{name} {version}" for name, version in found.versions.items()),
    }


def _watching(found: Artifact) -> dict[str, str]:
    """Return what a device will know of the task beside its answers, a line by name."""
    from adapt.artifacts import base_features
    from runtime.monitoring.carried import RATE, read

    own = read(found.optional, found.optional_tensors, len(found.task.classes))
    base = base_features.read(found)
    known = "none; train again, on at least 20 target images, to tell unknown frames"
    return {
        "monitored": known
        if own.statistics is None
        else f"by statistics of {own.statistics:,} target images",
        "drift": "none" if own.drift is None else f"threshold {own.drift:.1f}, for {RATE}",
        "routing": "none" if base is None else f"from {len(base):,} target images",
        "scores": own.scores
        if own.calibration is None
        else f"temperature {own.calibration.temperature:.2f}, from {own.scores}",
    }


def _classes(names: Sequence[str]) -> str:
    """Return the names of all classes, in lines."""
    text = f"classes   {len(names)}: {', '.join(map(printable, names))}"
    return textwrap.fill(text, _WIDTH, subsequent_indent=" " * 10, break_on_hyphens=False)


def _show_images(found: Artifact) -> None:
    """Print the images that training took, what it left out, and where they lay."""
    from adapt.data.drawn import DEMO_SETS
    from adapt.data.inventory import INVENTORY, line_of, rows_of
    from adapt.data.origin import IMAGES, Origin

    inventory, origin = found.optional.get(INVENTORY), Origin.of(found.optional.get(IMAGES))
    if rows := rows_of(inventory):
        header = ("images", "folder", "number", "per class: least / median / most")
        echo("\n" + table(header, rows))
        echo(str(line_of(inventory)).partition("; ")[2])
    elif found.task.dataset in DEMO_SETS:
        echo("\nimages    drawn by uda-adapt")
    elif origin is None:
        echo("\nimages    unknown: the artifact does not say")
    if origin:
        names = {"--source": origin.source, "--target": origin.target, "--test": origin.test}
        words = [word for name in names.items() if name[1] for word in name]
        gone = "" if disk.is_folder(origin.root) else "; the folder is no longer there"
        echo(f"data      {shell_command(['--data', origin.root, *words])}{gone}")


def _show_epochs(folder: Path, metrics: Metrics) -> None:
    """Print the losses of every epoch, if the run's own history is there."""
    from adapt.commands.run_tables import epochs_table
    from adapt.training.history import read_history

    try:
        history = read_history(folder)
    except FormatError as error:
        return echo(f"\nlosses    unknown: {error}")
    last = history[-1]
    if (last["epoch"], last["accuracy"]) != (metrics.last.epoch, metrics.last.accuracy):
        return echo(f"\nlosses    unknown: the history in '{folder}' is of another run")
    return echo("\n" + epochs_table(history, metrics))


def _file(folder: Path) -> Path:
    """Return the artifact in a folder.

    Raises:
        TaskError: The folder holds no artifact; the message lists those below it.
    """
    if disk.exists(folder / store.FILE):
        return folder / store.FILE
    below = [path.parent for path in disk.matching(folder, f"**/{store.FILE}")[: _LISTED + 1]]
    if not below:
        raise TaskError(
            f"'{folder}' and its subfolders have no {store.FILE}; pass the folder that "
            "`uda-adapt train` wrote"
        )
    more = ", ..." if len(below) > _LISTED else ""
    names = ", ".join(f"'{path}'" for path in below[:_LISTED])
    raise TaskError(f"'{folder}' is not an artifact; pass one below it: {names}{more}")
