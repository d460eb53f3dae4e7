"""The bundle: what a device receives. See FORMAT.md beside this file.

Files are named after their content and the manifest is replaced last, so a bundle is at every
moment either the old one or the new one, and a reader never meets half of one.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from runtime import digest, manifest
from runtime.errors import FormatError, StorageError, TaskError
from runtime.files import read_bytes, sha256, storage_errors, write_bytes
from runtime.manifest import FileRef, Manifest, TaskEntry
from runtime.spec import BaseModel, Precision, Preprocess, TaskInfo, TensorSpec
from runtime.task import Task, encode_task, read_task
from runtime.weights import Weights
from runtime.weights_file import read_weights

# Of a graph or a task file; the base is far larger and is read elsewhere.
_MAX_BYTES = 1 << 30
_OURS = re.compile(r".+-[0-9a-f]{16}\.(onnx|safetensors)|\..+\.tmp")


class Bundle:
    """A bundle on disk, opened for reading. Holds the manifest only."""

    def __init__(self, path: Path, content: Manifest) -> None:
        self.path, self.manifest = path, content
        self._tasks = {entry.id: entry for entry in content.tasks}

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Bundle:
        """Read and check the manifest.

        Raises:
            FormatError: There is no bundle, or its manifest is damaged or of another version.
        """
        folder = Path(path)
        return cls(folder, manifest.read(folder))

    @property
    def tasks(self) -> tuple[str, ...]:
        """The ids of the tasks, in the order of the manifest."""
        return tuple(self._tasks)

    def entry(self, task: str) -> TaskEntry:
        """Return the manifest's entry of a task.

        Raises:
            TaskError: The bundle has no such task; the message lists those it has.
        """
        if task not in self._tasks:
            known = ", ".join(sorted(self._tasks)) or "none"
            raise TaskError(f"unknown task '{task}'; '{self.path}' has {known}")
        return self._tasks[task]

    def graph(self, ref: FileRef) -> bytes:
        """Return the bytes of a graph after checking its digest.

        Raises:
            FormatError: The file is missing or altered.
        """
        return self._content(ref)

    def task(self, task: str, layout: Mapping[str, TensorSpec]) -> Task:
        """Read a task's file and check it against the base's layout.

        Raises:
            TaskError: The bundle has no such task.
            FormatError: The file is missing, altered or of another base.
        """
        entry = self.entry(task)
        path = self._locate(entry.file)
        self._content(entry.file)
        loaded = read_task(path, self.manifest.tensors.sha256, layout)
        if loaded.info.id != task or loaded.head not in {h.sha256 for h in self.manifest.heads}:
            raise FormatError(f"'{path}' is not the file of task '{task}' in this bundle")
        return loaded

    def weights(self) -> Weights:
        """Read the base weights into one buffer, checking their digest on the way.

        Raises:
            FormatError: The file is missing, damaged, or not what the manifest says.
        """
        ref = self.manifest.tensors
        return read_weights(self._locate(ref), ref.bytes, ref.sha256)

    def _content(self, ref: FileRef) -> bytes:
        content = read_bytes(self._locate(ref), min(ref.bytes, _MAX_BYTES))
        if len(content) != ref.bytes or sha256(content) != ref.sha256:
            raise FormatError(f"'{self.path / ref.path}' was altered; copy the bundle again")
        return content

    def _locate(self, ref: FileRef) -> Path:
        path = self.path / ref.path
        # A link must not lead a device to a file outside of what it was given.
        if not path.resolve().is_relative_to(self.path.resolve()):
            raise FormatError(f"'{path}' leads out of the bundle")
        return path


def write(
    path: Path,
    *,
    base: BaseModel,
    precision: Precision,
    preprocess: Preprocess,
    encoder: bytes,
    blocked: bytes | None = None,
    tensors: Mapping[str, NDArray[Any]],
    heads: Sequence[bytes],
    tasks: Sequence[Task],
    report: Mapping[str, Any],
) -> None:
    """Write a bundle; an existing one at `path` is replaced in one step.

    Args:
        path: Folder of the bundle.
        base: The CLIP model the tensors come from.
        precision: Of the tensors and the encoder.
        preprocess: How frames become pixels.
        encoder: ONNX graph, inputs `pixels` and every tensor, output `features`.
        blocked: The same for ONNX Runtime on the CPU, whose tensors of four axes are filters laid
            out by `runtime.blocked`; None where that is of no use.
        tensors: Deploy tensors of the untouched base, float32 or float16.
        heads: ONNX graphs, inputs `features` and the head's tensors, output `logits`.
        tasks: Tasks for exactly these tensors and graphs.
        report: How the engines compared with PyTorch.

    Raises:
        FormatError: The parts do not belong together, or a base value is not finite.
        StorageError: The disk is full or not writable, or `path` is a folder of other files; an
            existing bundle stays as it was.
    """
    created = not path.exists()
    foreign = None if (path / manifest.NAME).is_file() else _foreign(path)
    if foreign:
        raise StorageError(
            f"'{path}' has files of others in it ('{foreign.name}') and is no bundle; choose "
            "another place, or empty it"
        )
    for name, array in tensors.items():
        if not bool(np.isfinite(array).all()):
            raise FormatError(f"base tensor '{name}' holds a value that is not finite")
    identity = digest.tensors_sha256(tensors)
    graphs = {sha256(graph) for graph in heads}
    for task in tasks:
        if task.base_sha256 != identity or task.head not in graphs:
            raise FormatError(f"task '{task.info.id}' belongs to another base or head graph")
    written: list[Path] = []

    def add(folder: str, stem: str, suffix: str, content: bytes, name: str = "") -> FileRef:
        content_sha = sha256(content)
        ref = FileRef(
            f"{folder}/{stem}-{(name or content_sha)[:16]}{suffix}",
            len(content),
            name or content_sha,
        )
        target = path / ref.path
        if not target.exists():
            written.append(target)
        write_bytes(target, content)
        return ref

    try:
        content = Manifest(
            base=base,
            precision=precision,
            preprocess=preprocess,
            parameters=sum(array.size for array in tensors.values()),
            tensors=add("base", "base", ".safetensors", save(dict(tensors)), identity),
            encoder=add("graphs", "encoder", ".onnx", encoder),
            blocked=None if blocked is None else add("graphs", "blocked", ".onnx", blocked),
            heads=tuple(add("graphs", "head", ".onnx", graph) for graph in dict.fromkeys(heads)),
            tasks=tuple(
                _entry(task, add("tasks", task.info.id, ".safetensors", encode_task(task)))
                for task in tasks
            ),
            report=dict(report),
        )
        write_bytes(path / manifest.NAME, manifest.encode(content))
    except BaseException:
        with contextlib.suppress(OSError):  # the error that brought us here is the one to tell
            kept = _named(path)
            for file in written:
                if file not in kept:
                    file.unlink(missing_ok=True)
            if created:
                _remove_empty(path)
        raise
    _collect(path, content)


def _entry(task: Task, file: FileRef) -> TaskEntry:
    info: TaskInfo = task.info
    changed = sum(sparse.indices.size for sparse in task.patch.values())
    return TaskEntry(
        info.id,
        info.dataset,
        info.source,
        info.target,
        len(info.classes),
        task.method,
        changed,
        file,
    )


def _foreign(path: Path) -> Path | None:
    """Return a file below `path` that no killed writer of a bundle can have left there."""
    files = (file for file in path.rglob("*") if not file.is_dir())
    return next((file for file in files if not _OURS.fullmatch(file.name)), None)


def _named(path: Path) -> set[Path]:
    """Return the files that the manifest on the disk names; none if there is no sound one."""
    try:
        return {path / ref.path for ref in manifest.read(path).files()}
    except FormatError:
        return set()


def _collect(path: Path, content: Manifest) -> None:
    """Remove the files of the bundle that stood here before and that the new one does not use."""
    used = {path / ref.path for ref in content.files()}
    with storage_errors(path):
        for folder in ("base", "graphs", "tasks"):
            for file in (path / folder).iterdir():
                ours = _OURS.fullmatch(file.name) is not None
                if ours and file not in used and file.is_file():
                    file.unlink()


def _remove_empty(path: Path) -> None:
    for folder in (*(path / name for name in ("base", "graphs", "tasks")), path):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
