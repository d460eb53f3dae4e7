"""`uda-runtime info`: show the content of a bundle and its engines."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from runtime.commands.carried import carried, document, show_carried
from runtime.commands.engines import show_engines
from runtime.commands.options import BUNDLE, ENGINES
from runtime.console import (
    STDOUT,
    UserPath,
    as_json,
    bytes_text,
    count_of,
    echo,
    publish,
    table,
    write_json,
)
from runtime.errors import FormatError, StorageError
from runtime.text import printable

if TYPE_CHECKING:
    from runtime.bundles.bundle import Bundle
    from runtime.bundles.entries import Encoder, FileRef, TaskEntry
    from runtime.memory.weights import Weights

T = TypeVar("T")
_SHOWN = 6
"""Largest number of tasks to name in one line."""


@click.command(short_help="Show what a bundle holds.")
@BUNDLE
@click.option(
    "--check",
    is_flag=True,
    help="Also read the base and the engines, and check that every task fits; exits 1 if one is "
    "damaged.",
)
@click.option(
    "--json",
    "json_file",
    type=UserPath(dir_okay=False, allow_dash=True),
    help="Also write JSON, without the engines; - prints it instead of the tables.",
)
@ENGINES
def info(bundle: Path, check: bool, json_file: Path | None, engines: str | None) -> None:
    """Show what a bundle holds, and its TensorRT engines if there are some.

    Files that are missing or damaged are marked.
    """
    from runtime.bundles.bundle import Bundle

    opened = Bundle.open(bundle)
    damaged = _damaged(opened, check)
    found = carried(opened, damaged)
    if json_file == STDOUT:
        publish("", {STDOUT: as_json(document(opened, damaged, found))})
    else:
        _show(opened, damaged)
        show_carried(found)
        if damaged:
            echo("")
        for problem in damaged.values():
            echo(f"damaged   {printable(problem)}")
        if check and not damaged:
            echo(f"\nchecked   {count_of(len(opened.manifest.files()), 'file')}, all intact")
        if json_file is not None:
            write_json(json_file, document(opened, damaged, found))
            echo(f"\nwrote     {printable(json_file)}")
        show_engines(opened, engines, check)
    if check and damaged:
        raise FormatError(
            f"{count_of(len(damaged), 'file')} of '{bundle}' cannot be used, see above; copy the "
            "bundle again"
        )


def _damaged(opened: Bundle, check: bool) -> dict[FileRef, str]:
    """Return what is wrong with files of a bundle.

    Args:
        opened: Bundle to look at.
        check: Whether to read the base too, and to check that graphs and tasks can be used.
    """
    from runtime.monitoring.whitening import MEMBER

    manifest = opened.manifest
    found: dict[FileRef, str] = {}
    for ref in manifest.files():
        _use(found, ref, opened.check, ref)
    if check and manifest.tensors not in found:
        for ref in manifest.graphs():
            _use(found, ref, opened.graph, ref)
        weights = _use(found, manifest.tensors, opened.weights)
        for task in (*manifest.tasks, *manifest.former) if weights else ():
            _use(found, task.file, _check_task, opened, weights, task)
        shared = opened.optional_file(MEMBER)
        if shared is not None:
            _use(found, shared, _check_whitening, opened, shared)
    return found


def _use(
    found: dict[FileRef, str], ref: FileRef, call: Callable[..., T], *arguments: Any
) -> T | None:
    """Return what a function returns; if the file cannot be used, add the error to `found`."""
    try:
        return call(*arguments)
    except (FormatError, StorageError) as error:
        found[ref] = str(error)
    return None


def _check_task(opened: Bundle, weights: Weights, task: TaskEntry) -> None:
    from runtime.monitoring import carried as members

    content = opened.read(task, weights.layout)
    weights.prepare(content.patch)
    members.read(content.optional, content.optional_tensors, task.classes)


def _check_whitening(opened: Bundle, ref: FileRef) -> None:
    from runtime.monitoring.whitening import Whitening

    Whitening.decode(opened.optional(ref), opened.path / ref.path)


def _show(opened: Bundle, damaged: Collection[FileRef]) -> None:
    """Print the base, the format, the graphs and a table of the tasks."""
    manifest = opened.manifest
    base = manifest.base
    echo(
        f"base      {base.architecture} / {base.pretrained}, sha256 {base.sha256[:12]}, "
        f"{manifest.precision}, {bytes_text(manifest.tensors.bytes)}"
    )
    features = list(manifest.requires)
    for feature in sorted({name for task in manifest.tasks for name in task.requires}):
        who = [task.id for task in manifest.tasks if feature in task.requires]
        features.append(f"{feature} ({_some(who, len(manifest.tasks))})")
    echo(f"format    schema {manifest.schema}, requires {', '.join(features) or 'no feature'}")
    graphs = manifest.graphs()
    size = bytes_text(sum(ref.bytes for ref in graphs))
    echo(f"graphs    {len(graphs)} without weights, {size}")
    echo(f"routing   {routing_text(opened, damaged)}\n")
    former = {task.id: task for task in manifest.former}
    rows = [
        [
            task.id,
            task.dataset,
            f"{task.source} -> {task.target}",
            task.classes,
            task.method,
            f"{task.resize} {manifest.encoder(task).size}, {task.interpolation}",
            _encoder(manifest.encoder(task)),
            manifest.head(task).kind,
            f"{task.changed:,}",
            f"{task.changed / manifest.parameters:.3%}",
            "damaged" if task.file in damaged else bytes_text(task.file.bytes),
            former[task.id].file.sha256[:12] if task.id in former else "-",
        ]
        for task in manifest.tasks
    ]
    header = (
        *("task", "data set", "domains", "classes", "method", "frames", "encoder", "head"),
        *("changed", "patch", "file", "former"),
    )
    echo(table(header, rows))
    removed = former.keys() - set(opened.tasks)
    if removed:
        echo(f"\nremoved   {', '.join(sorted(removed))}; uda-runtime rollback brings it back")


def routing_text(opened: Bundle, damaged: Collection[FileRef] = ()) -> str:
    """Return, for people, which tasks of a bundle can be chosen for a frame.

    Args:
        opened: Bundle to look at.
        damaged: Files that cannot be used.
    """
    from runtime.monitoring.whitening import MEMBER
    from runtime.sessions.tables import routable

    if opened.optional_file(MEMBER) is None:
        return "no task can be chosen for a frame; train and export again for `--task auto`"
    tasks = [task for task in opened.manifest.tasks if task.file not in damaged]
    found = [task.id for task in tasks if _use({}, task.file, routable, opened, task)]
    others = [task.id for task in tasks if task.id not in found]
    text = f"{_some(found, len(tasks)) or 'no task'} can be chosen for a frame (`--task auto`)"
    return f"{text}; train again: {_some(others, len(tasks))}" if others else text


def _some(tasks: list[str], total: int) -> str:
    """Return the names of tasks as text, at most a few of them."""
    if len(tasks) == total > 1:
        return f"all {total} tasks"
    more = f" and {len(tasks) - _SHOWN} more" if len(tasks) > _SHOWN else ""
    return ", ".join(tasks[:_SHOWN]) + more


def _encoder(encoder: Encoder) -> str:
    """Return the inputs of an encoder for people: `base`, or `base + 12 x 4 tokens`."""
    counts = [shape[0] for shape in encoder.tokens.values()]
    if not counts:
        return "base"
    same = len(set(counts)) == 1
    number = f"{len(counts)} x {counts[0]}" if same else str(sum(counts))
    return f"base + {number} tokens"
