"""`uda-adapt inspect`: show what an artifact holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from adapt.artifacts import store
from runtime.console import UserPath, bytes_text, echo, table
from runtime.errors import TaskError
from runtime.storage import disk
from runtime.text import printable

_LISTED = 8
"""Number of artifacts below a folder that a message lists."""


@click.command(short_help="Show what an artifact holds.")
@click.argument("artifact", type=UserPath(exists=True))
def inspect(artifact: Path) -> None:
    """Show what an artifact holds, given its file or the folder that training wrote it to."""
    artifact = _file(artifact) if disk.is_folder(artifact) else artifact
    from adapt.artifacts.artifact import Artifact
    from adapt.artifacts.metrics import Metrics
    from adapt.data.inventory import INVENTORY, line_of
    from adapt.data.origin import IMAGES, Origin
    from adapt.settings.layers import shown
    from adapt.settings.stored import SETTINGS
    from runtime import patch
    from runtime.storage.fields import build

    found = Artifact.load(artifact)
    task, base = found.task, found.base
    metrics = build(Metrics, found.metrics, "metrics")
    saved, chosen = metrics.saved, metrics.selected
    origin = Origin.of(found.optional.get(IMAGES))
    shown_lines = {
        "task": f"{task.dataset} {task.id}: {task.source} -> {task.target}",
        "classes": f"{len(task.classes)}: {_some(task.classes)}",
        "method": f"{found.method}, seed {found.seed}",
        "base": f"{base.architecture}/{base.pretrained}, sha256 {base.sha256[:12]}...",
        **({"model": found.architecture.summary} if found.architecture else {}),
        "encoder": f"{patch.size(found.residual):,} of {found.parameters:,} weights changed "
        f"({100 * found.density:.3f} %)",
        "head": f"{found.head}, {sum(t.size for t in found.head_tensors.values()):,} numbers",
        "prompt": found.config["prompt"],
        "image": f"{found.preprocess.size} x {found.preprocess.size}, {found.preprocess.resize}",
        "epoch": f"{saved.epoch}, {f'chosen by {chosen.by}' if chosen else 'the last'}",
        "accuracy": "unknown, the target has no labels"
        if saved.accuracy is None
        else f"{saved.accuracy:.2f} %, {metrics.oracle_best.accuracy:.2f} % oracle-best",
        "images": line_of(found.optional.get(INVENTORY)) or "unknown",
        **({"data": origin.root} if origin else {}),
        "versions": ", ".join(f"{name} {version}" for name, version in found.versions.items()),
        "file": bytes_text(artifact.stat().st_size),
    }
    for name, text in shown_lines.items():
        echo(f"{name:<10}{text}")
    record = found.optional.get(SETTINGS)
    sources = record.get("sources") if isinstance(record, dict) else None
    if isinstance(sources, dict) and sources:
        rows = [
            (key, printable(shown(value)), printable(sources[key]))
            for key, value in found.config.items()
            if key in sources
        ]
        echo("\n" + table(("setting", "value", "source"), rows))


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


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
