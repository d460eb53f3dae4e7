"""Change the tasks of a bundle while sessions run from it: install, remove, rollback.

Each replaces the manifest once, under the bundle's lock. A session sees the change when it reads
the manifest again. See "Changing tasks" in FORMAT.md.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from runtime.bundles.bundle import MAX_BYTES, Bundle
from runtime.bundles.entries import TaskEntry
from runtime.bundles.manifest import SCHEMA, Manifest
from runtime.bundles.staging import Staging, staging
from runtime.bundles.task import OLDEST, Task, decode_task, entry_of
from runtime.bundles.task_checks import check_head, check_head_like, check_tokens
from runtime.errors import FormatError, TaskError
from runtime.models import TensorSpec
from runtime.storage.files import read_bytes

Place = str | os.PathLike[str]


def install(bundle: Place, file: Place) -> TaskEntry:
    """Add a task to a bundle, or replace the one of its id, which then becomes the former version.

    A file that the bundle has already is left as it is. The base's values are not read.

    Args:
        bundle: Folder of the bundle.
        file: Task file from the folder `tasks` of another bundle of the same base.

    Returns:
        The manifest's new entry of the task.

    Raises:
        FormatError: The file is damaged, of another version, or for another base, precision,
            encoder or head than the bundle's; or the bundle is damaged. Nothing was changed.
        StorageError: The bundle cannot be written; it is as it was.
    """
    source = Path(file)
    content = read_bytes(source, MAX_BYTES)
    with _changing(Path(bundle)) as (stage, opened):
        layout = opened.layout()
        try:
            task = decode_task(content, source, opened.manifest.tensors.sha256, layout)
            _check(task, source, opened, layout)
        except FormatError as error:
            named = f"'{source}'" in str(error) or f"'{opened.path}" in str(error)
            where = "" if named else f"'{source}': "
            raise FormatError(f"{where}{error}") from error
        entry = entry_of(task, stage.add("tasks", task.info.id, ".safetensors", content))
        installed = _installed(opened.manifest, entry)
        if task.schema > OLDEST:  # which only readers of the newest schema can read
            installed = replace(installed, schema=SCHEMA)
        _publish(stage, opened, installed)
    return entry


def remove(bundle: Place, task: str) -> TaskEntry:
    """Remove a task from a bundle; it becomes the former version, which `rollback` restores.

    Args:
        bundle: Folder of the bundle.
        task: Id of the task.

    Returns:
        The manifest's entry of the task before.

    Raises:
        TaskError: The bundle has no such task, or no other one.
        FormatError: The bundle is damaged.
        StorageError: The bundle cannot be written; it is as it was.
    """
    with _changing(Path(bundle)) as (stage, opened):
        entry, manifest = opened.entry(task), opened.manifest
        if len(manifest.tasks) == 1:
            raise TaskError(
                f"'{task}' is the only task of '{bundle}', and a bundle needs one; install another "
                "first, or delete the folder"
            )
        kept = tuple(other for other in manifest.tasks if other.id != task)
        former = _with(manifest.former, entry)
        _publish(stage, opened, replace(manifest, tasks=kept, former=former))
    return entry


def rollback(bundle: Place, task: str) -> TaskEntry:
    """Swap a task with its former version, or restore a task that was removed.

    A second rollback undoes the first.

    Args:
        bundle: Folder of the bundle.
        task: Id of the task.

    Returns:
        The manifest's new entry of the task.

    Raises:
        TaskError: The bundle has no former version of this task, or does not know it at all.
        FormatError: The former version's file, or the bundle, is damaged. Nothing was changed.
        StorageError: The bundle cannot be written; it is as it was.
    """
    with _changing(Path(bundle)) as (stage, opened):
        manifest = opened.manifest
        entry = _by_id(manifest.former).get(task)
        if entry is None:
            opened.entry(task)  # an unknown task has an error of its own
            raise TaskError(
                f"'{bundle}' has no former version of task '{task}'; `uda-runtime install` keeps "
                "the version that it replaces"
            )
        opened.read(entry, opened.layout())
        former = tuple(other for other in manifest.former if other.id != task)
        current = _by_id(manifest.tasks).get(task)
        former = former if current is None else (*former, current)
        _publish(
            stage, opened, replace(manifest, tasks=_with(manifest.tasks, entry), former=former)
        )
    return entry


@contextlib.contextmanager
def _changing(path: Path) -> Iterator[tuple[Staging, Bundle]]:
    Bundle.open(path)  # where there is no bundle, not even a lock is made
    with staging(path) as stage:
        yield stage, Bundle.open(path)


def _publish(stage: Staging, opened: Bundle, content: Manifest) -> None:
    if content != opened.manifest:
        stage.publish(content)
    stage.clear(content)


def _installed(manifest: Manifest, entry: TaskEntry) -> Manifest:
    replaced = _by_id(manifest.tasks).get(entry.id)
    if replaced == entry:
        return manifest
    former = manifest.former if replaced is None else _with(manifest.former, replaced)
    return replace(manifest, tasks=_with(manifest.tasks, entry), former=former)


def _check(task: Task, source: Path, opened: Bundle, layout: Mapping[str, TensorSpec]) -> None:
    manifest = opened.manifest
    encoders = {encoder.graph.sha256: encoder for encoder in manifest.encoders}
    heads = {head.graph.sha256: head for head in manifest.heads}
    for kind, wanted, known in (
        ("encoder", task.encoder, encoders.keys()),
        ("head", task.head, heads.keys()),
    ):
        if wanted not in known:
            methods = ", ".join(sorted({entry.method for entry in manifest.tasks}))
            task_id = task.info.id
            raise FormatError(
                f"'{source}' is task '{task_id}' of the method {task.method}, which needs another "
                f"{kind} than the tasks of '{opened.path}' ({methods}) have; export that bundle "
                f"again, with --task {task_id}={task.method} beside its other tasks"
            )
    check_tokens(task, encoders[task.encoder].tokens, manifest.precision)
    shapes = heads[task.head].tensors
    if shapes is not None:
        return check_head(task, shapes)
    for entry in manifest.tasks:
        if entry.head == task.head:
            return check_head_like(task, opened.read(entry, layout))
    raise FormatError(
        f"nothing in '{opened.path}' says what the head of '{source}' takes; export the whole "
        "bundle again, together with this task"
    )


def _by_id(entries: tuple[TaskEntry, ...]) -> dict[str, TaskEntry]:
    return {entry.id: entry for entry in entries}


def _with(entries: tuple[TaskEntry, ...], entry: TaskEntry) -> tuple[TaskEntry, ...]:
    """Return entries with one that replaces the entry of its id, or is added at the end."""
    return tuple({**_by_id(entries), entry.id: entry}.values())
