"""Read and write bundles; FORMAT.md in this folder specifies them.

Files are named after their content and the manifest is replaced last, so a reader sees either the
old bundle or the new one, never half of one.

Longer than most files: what reads a bundle and what writes one are read side by side.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors.numpy import save

from runtime.bundles import manifest
from runtime.bundles.base_check import BaseCheck
from runtime.bundles.entries import FileRef, TaskEntry
from runtime.bundles.graphs import EncoderGraph, HeadGraph, check_parts
from runtime.bundles.manifest import Manifest
from runtime.bundles.shared_weights import SharedWeights
from runtime.bundles.staging import staging
from runtime.bundles.task import (
    FEATURES,
    Members,
    Task,
    decode_task,
    encode_task,
    entry_of,
    read_members,
)
from runtime.bundles.task import OLDEST as OLDEST_TASK
from runtime.bundles.task import SCHEMA as TASK_SCHEMA
from runtime.bundles.task_checks import check_head, check_tokens
from runtime.bundles.weights_file import check_weights, read_layout, read_weights
from runtime.errors import FormatError, TaskError
from runtime.graphs.check import check_graph, check_size
from runtime.memory.form import PLAIN, Form
from runtime.memory.weights import Weights
from runtime.models import BaseModel, Precision, Preprocess, TensorSpec
from runtime.storage import digest, disk, extension
from runtime.storage.files import read_bytes, sha256

MAX_BYTES = 1 << 30
"""Largest size of a task file; the base is far larger and is read elsewhere."""


class Bundle:
    """A bundle on disk, opened for reading. Holds the manifest only."""

    def __init__(self, path: Path, content: Manifest) -> None:
        self.path, self.manifest = path, content
        self._tasks = {entry.id: entry for entry in content.tasks}
        self.base_check: BaseCheck | None = None
        """Check of the base by which it may be used before it is verified; None verifies first."""

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Bundle:
        """Read and check the manifest.

        Raises:
            FormatError: There is no bundle, or its manifest is damaged or of another version.
            StorageError: Access to the folder is denied.
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
        if not isinstance(task, str):
            raise TaskError(f"expected the id of a task as a string, found {str(task)[:60]!r}")
        if task not in self._tasks:
            known = ", ".join(sorted(self._tasks)) or "none"
            raise TaskError(f"unknown task '{task}'; available: {known}")
        return self._tasks[task]

    def preprocess(self, task: str) -> Preprocess:
        """Return the preprocessing of a task's frames; its background is in the task's own file.

        Raises:
            TaskError: The bundle has no such task.
        """
        entry = self.entry(task)
        return self.manifest.encoder(entry).preprocess(entry.resize, entry.interpolation)

    def graph(self, ref: FileRef) -> bytes:
        """Read a graph, and check its digest and its operators.

        Every engine is opened or built from a graph that was read here.

        Raises:
            FormatError: The file is missing or altered, or is not a graph that may be opened.
        """
        # Checked first: a larger file would be read for nothing.
        check_size(ref.bytes, ref.path)
        content = self._content(ref)
        encoders = {own for each in self.manifest.encoders for own in (each.graph, each.blocked)}
        check_graph(content, "encoder" if ref in encoders else "head", ref.path)
        return content

    def optional(self, ref: FileRef) -> bytes:
        """Read a file of an optional member, and check its digest.

        Raises:
            FormatError: The file is missing or altered.
        """
        return self._content(ref)

    def optional_file(self, member: str) -> FileRef | None:
        """Return the file that an optional member names; None where there is no such member."""
        found = self.manifest.optional.get(member)
        return next((ref for ref in self.manifest.optional_files() if asdict(ref) == found), None)

    def members(self, entry: TaskEntry) -> Members:
        """Read the optional members of a task, and nothing else of its file.

        Raises:
            FormatError: The file is missing or altered.
        """
        return read_members(self._content(entry.file), self._locate(entry.file))

    def check(self, ref: FileRef) -> None:
        """Check the digest of a file; of the base's, which is large, only the header and the size.

        Raises:
            FormatError: The file is missing or altered.
            StorageError: Access to the file is denied.
        """
        if ref == self.manifest.tensors:
            self.layout()
        else:
            self._content(ref)

    def task(self, task: str, layout: Mapping[str, TensorSpec]) -> Task:
        """Read a task's file and check it against the base's layout and its encoder.

        Raises:
            TaskError: The bundle has no such task.
            FormatError: The file is missing, altered, or does not fit base, encoder or head.
        """
        return self.read(self.entry(task), layout)

    def read(self, entry: TaskEntry, layout: Mapping[str, TensorSpec]) -> Task:
        """Read the task of one of the manifest's entries, current or former; see `task`.

        Raises:
            FormatError: The file is missing, altered, or does not fit base, encoder or head.
        """
        extension.check_known(entry.requires, FEATURES, f"task '{entry.id}' of '{self.path}'")
        path = self._locate(entry.file)
        content = self._content(entry.file)
        loaded = decode_task(content, path, self.manifest.tensors.sha256, layout, entry)
        if entry_of(loaded, entry.file) != entry:
            raise FormatError(
                f"'{path}' is not the file of task '{entry.id}' in this bundle; copy the bundle "
                "again"
            )
        check_tokens(loaded, self.manifest.encoder(entry).tokens, self.manifest.precision)
        shapes = self.manifest.head(entry).tensors
        if shapes is not None:
            check_head(loaded, shapes)
        return loaded

    def layout(self) -> dict[str, TensorSpec]:
        """Return the base's tensors by name, from the header of their file.

        Raises:
            FormatError: The file is missing, damaged, or not of the size that the manifest says.
        """
        ref = self.manifest.tensors
        layout = {spec.name: spec for spec in read_layout(self._locate(ref), ref.bytes)[0]}
        if (entries := sum(spec.size for spec in layout.values())) != self.manifest.parameters:
            raise FormatError(
                f"'{self.path / ref.path}' has {entries} entries, the manifest says "
                f"{self.manifest.parameters}; copy the bundle again"
            )
        return layout

    def weights(self, form: Form = PLAIN) -> Weights:
        """Read the base weights into one buffer, checking their digest on the way.

        Args:
            form: How the tensors shall lie in memory.

        Raises:
            FormatError: The file is missing, damaged, or not what the manifest says.
        """
        self.layout()  # before memory is taken
        ref = self.manifest.tensors
        return read_weights(self._locate(ref), ref.bytes, ref.sha256, self.base_check, form)

    def shared_weights(self, form: Form) -> SharedWeights:
        """Read the base weights once for several users, checking their digest on the way.

        Args:
            form: How the tensors shall lie in memory.

        Raises:
            FormatError: The file is missing, damaged, or not what the manifest says.
            StorageError: There is no room for the weights.
        """
        self.layout()  # before memory is taken
        ref = self.manifest.tensors
        return SharedWeights(self._locate(ref), ref.bytes, ref.sha256, form, self.base_check)

    def check_base(self) -> None:
        """Read the base and check its digest, a tensor at a time, whatever was checked before.

        Raises:
            FormatError: The file is missing, damaged, or not what the manifest says.
        """
        ref = self.manifest.tensors
        check_weights(self._locate(ref), ref.bytes, ref.sha256, lambda: False)

    def trust_former_checks(self) -> None:
        """Let the base be used before it is verified if this user verified it before."""
        ref = self.manifest.tensors
        self.base_check = BaseCheck(self._locate(ref), ref)

    def end_check(self) -> None:
        """End what verifies the base in the background, if no session is left to do so."""
        if self.base_check is not None:
            self.base_check.close()

    def _content(self, ref: FileRef) -> bytes:
        path = self._locate(ref)
        if not disk.exists(path):
            raise FormatError(
                f"'{path}' no longer exists; if the bundle was changed since it was opened, "
                "refresh or open it again, else copy it again"
            )
        content = read_bytes(path, min(ref.bytes, MAX_BYTES))
        if len(content) != ref.bytes or sha256(content) != ref.sha256:
            raise FormatError(f"'{self.path / ref.path}' was altered; copy the bundle again")
        return content

    def _locate(self, ref: FileRef) -> Path:
        path = self.path / ref.path
        # A link must not lead a device to a file outside of what it was given.
        if not disk.real(path).is_relative_to(disk.real(self.path)):
            raise FormatError(f"'{path}' is a link out of the bundle; copy the bundle again")
        return path


def write(
    path: Path,
    *,
    base: BaseModel,
    precision: Precision,
    encoders: Sequence[EncoderGraph],
    tensors: Mapping[str, NDArray[Any]],
    heads: Sequence[HeadGraph],
    tasks: Sequence[Task],
    report: Mapping[str, Any],
    schema: int = manifest.SCHEMA,
    optional: Mapping[str, bytes] | None = None,
) -> None:
    """Write a bundle; an existing one at `path` is replaced in one step.

    Args:
        path: Folder of the bundle.
        base: CLIP model that the tensors come from.
        precision: Precision of the tensors and the encoders.
        encoders: Encoders, each graph once.
        tensors: Deploy tensors of the untouched base, float32 or float16.
        heads: Heads, each graph once.
        tasks: Tasks for exactly these tensors and graphs.
        report: Comparison of the engines with PyTorch.
        schema: Schema of the bundle, one of `manifest.WRITTEN`; 2 is for devices with an earlier
            version.
        optional: Contents of the files of optional members, by member; schema 2 has none.

    Raises:
        FormatError: The parts do not belong together, a value is not finite, or the schema lacks
            what a task requires.
        StorageError: The disk is full or not writable, or `path` is a folder of other files; an
            existing bundle stays as it was.
    """
    identity = digest.tensors_sha256(tensors)
    check_parts(identity, precision, encoders, tensors, heads, tasks)
    of_tasks = TASK_SCHEMA if schema == manifest.SCHEMA else OLDEST_TASK
    tasks = [replace(task, schema=of_tasks) for task in tasks]
    with staging(path) as stage:
        content = Manifest(
            base=base,
            precision=precision,
            parameters=sum(array.size for array in tensors.values()),
            tensors=stage.add("base", "base", ".safetensors", save(dict(tensors)), identity),
            encoders=tuple(encoder.add(stage) for encoder in encoders),
            heads=tuple(head.add(stage) for head in heads),
            tasks=tuple(
                entry_of(task, stage.add("tasks", task.info.id, ".safetensors", encode_task(task)))
                for task in tasks
            ),
            former=(),
            report=dict(report),
            optional={
                name: asdict(stage.add("optional", name, ".safetensors", file))
                for name, file in (optional or {}).items()
                if schema == manifest.SCHEMA
            },
            schema=schema,
        )
        stage.publish(content)
        stage.clear(content)
