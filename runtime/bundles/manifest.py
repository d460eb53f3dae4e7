"""Read, check and write the manifest: the list of a bundle's files and tasks, under one digest."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from runtime.bundles.entries import Encoder, FileRef, Head, TaskEntry
from runtime.bundles.schemas import as_schema_2, extended, from_schema_1
from runtime.errors import FormatError
from runtime.models import BaseModel, Precision
from runtime.storage import disk, extension
from runtime.storage.fields import build
from runtime.storage.files import read_bytes, sha256
from runtime.storage.json_text import parse

KIND, SCHEMA = "uda-bundle", 3
WRITTEN = (2, 3)
"""Schemas that can be written: 2 for devices with an earlier version."""
FEATURES: frozenset[str] = frozenset()
"""Features that a bundle may require of this version; those of tasks are in `task.py`."""
NAME = "manifest.json"
_KEYS = frozenset(("kind", "schema", "sha256", "body"))
MAX_BYTES = 16 << 20
"""Largest manifest; one of 200 tasks has 140 kB."""
MAX_GRAPHS = 256
"""Most encoders, and most heads."""


@dataclass(frozen=True)
class Manifest:
    """The list of everything in a bundle."""

    base: BaseModel
    precision: Precision
    parameters: int
    """Entries of all base tensors together."""
    tensors: FileRef
    encoders: tuple[Encoder, ...]
    heads: tuple[Head, ...]
    tasks: tuple[TaskEntry, ...]
    former: tuple[TaskEntry, ...]
    """Versions that were replaced or removed and can come back, at most one per id."""
    report: dict[str, Any]
    """Comparison of the engines with PyTorch at export, per task."""
    requires: tuple[str, ...] = ()
    """Features that a reader must know to run any of its tasks."""
    optional: dict[str, Any] = field(default_factory=dict)
    """Members that a reader may ignore and a writer keeps; they never change a label."""
    schema: int = SCHEMA
    """Schema that was read, or will be written."""

    def __post_init__(self) -> None:
        for entries in (self.tasks, self.former):
            if len({task.id for task in entries}) != len(entries):
                raise ValueError("two tasks have the same id")
        if not self.tasks:
            raise ValueError("a bundle needs at least one task")
        if extension.deeper(self.report, extension.MAX_DEPTH):
            raise ValueError(f"the report is nested more than {extension.MAX_DEPTH} levels deep")
        self.optional_files()  # refuses an invalid reference
        if self.parameters < 1:
            raise ValueError(f"a base cannot have {self.parameters} entries")
        if max(len(self.encoders), len(self.heads)) > MAX_GRAPHS:
            raise ValueError(
                f"expected at most {MAX_GRAPHS} encoders and heads each, found "
                f"{len(self.encoders)} and {len(self.heads)}"
            )
        encoders = {encoder.graph.sha256 for encoder in self.encoders}
        heads = {head.graph.sha256 for head in self.heads}
        if len(encoders) != len(self.encoders) or len(heads) != len(self.heads):
            raise ValueError("two encoders or heads have the same graph")
        if len({encoder.blocked is None for encoder in self.encoders}) > 1:
            raise ValueError("only some encoders have a graph over blocked filters")
        for task in (*self.tasks, *self.former):
            if task.encoder not in encoders or task.head not in heads:
                raise ValueError(f"task '{task.id[:80]}' needs a graph that is not in the bundle")
            if not 0 <= task.changed <= self.parameters:
                raise ValueError(
                    f"task '{task.id[:80]}' cannot change {task.changed} of {self.parameters} "
                    "entries"
                )

    def encoder(self, task: TaskEntry) -> Encoder:
        """Return the encoder of one of the tasks."""
        return next(e for e in self.encoders if e.graph.sha256 == task.encoder)

    def head(self, task: TaskEntry) -> Head:
        """Return the head of one of the tasks."""
        return next(h for h in self.heads if h.graph.sha256 == task.head)

    def files(self) -> tuple[FileRef, ...]:
        """Return every file of the bundle but the manifest itself."""
        tasks = (task.file for task in (*self.tasks, *self.former))
        return (self.tensors, *self.graphs(), *tasks, *self.optional_files())

    def optional_files(self) -> tuple[FileRef, ...]:
        """Return the files of optional members: every object that has a file reference's keys.

        Raises:
            ValueError: A reference is invalid.
        """
        return tuple(_references(self.optional))

    def graphs(self) -> tuple[FileRef, ...]:
        """Return every graph."""
        encoders = [ref for e in self.encoders for ref in (e.graph, e.blocked) if ref is not None]
        return (*encoders, *(head.graph for head in self.heads))


def encode(manifest: Manifest) -> bytes:
    """Return the bytes of `manifest.json`, in the manifest's schema.

    Schema 2 has no optional members, which are left out.

    Raises:
        FormatError: The report holds a number that is not finite, or schema 2 is wanted of a bundle
            that requires features.
    """
    try:
        body = asdict(manifest)
        schema = body.pop("schema")
        if schema < SCHEMA:
            body = as_schema_2(body)
        digest = sha256(_canonical(body))
        document = {"kind": KIND, "schema": schema, "sha256": digest, "body": body}
        return (json.dumps(document, indent=1) + "\n").encode()
    except ValueError as error:
        raise FormatError(
            f"the bundle's report cannot be written: {error}; export the bundle again"
        ) from error


def _beside(folder: Path) -> str:
    """Return a hint for a missing bundle: a similar name, or how to create one."""
    named = folder.with_name(f"{folder.name}.bundle")  # the ending that every command shows
    if disk.is_file(named / NAME):
        return f"; did you mean '{named}'"
    return "; check the path, or create one with `uda-export onnx`"


def read(folder: Path) -> Manifest:
    """Read and check the manifest of a bundle.

    Raises:
        FormatError: There is none, or it is damaged, altered or of another version.
        StorageError: Access to the folder is denied.
    """
    if not disk.is_file(folder / NAME):
        if not os.path.lexists(folder):
            raise FormatError(f"the bundle '{folder}' does not exist{_beside(folder)}")
        raise FormatError(
            f"'{folder}' is not a bundle (no {NAME}); create one with `uda-export onnx`"
        )
    where = f"'{folder / NAME}'"
    try:
        document = parse(read_bytes(folder / NAME, MAX_BYTES))
        if not isinstance(document, dict) or document.get("kind") != KIND:
            raise FormatError(
                f"{where} is not the manifest of a bundle; create one with `uda-export onnx`"
            )
        digest = sha256(_canonical(document.get("body")))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{where} is damaged: {error}; copy the bundle again") from error
    schema, body = document.get("schema"), document.get("body")
    if type(schema) is not int or not 1 <= schema <= SCHEMA:
        raise FormatError(
            f"{where} has schema {schema!r}, this version reads 1 to {SCHEMA}; export again, or "
            "install the version that wrote it"
        )
    if unknown := sorted(document.keys() - _KEYS):
        raise FormatError(
            f"{where}: unknown key '{unknown[0][:80]}' beside 'body'; copy the bundle again"
        )
    if document.get("sha256") != digest:
        raise FormatError(f"{where} was altered: its digest does not match; copy the bundle again")
    if not isinstance(body, dict):
        raise FormatError(
            f"{where}: expected a mapping in 'body', found {str(body)[:60]!r}; export again"
        )
    requires: tuple[str, ...] = ()
    optional: dict[str, Any] = {}
    if schema == SCHEMA:
        # Checked first: a feature may bring keys that this version cannot read.
        requires, optional = extension.take(body, FEATURES, where)
    elif extended(body):
        raise FormatError(f"{where} of schema {schema} has keys of schema {SCHEMA}; export again")
    if schema == 1:
        body = from_schema_1(body)
    if "schema" in body:
        raise FormatError(f"{where}: unknown key 'schema'; copy the bundle again")
    own = {"requires": list(requires), "optional": optional, "schema": max(schema, WRITTEN[0])}
    content = build(Manifest, {**body, **own}, where)
    if schema == SCHEMA and any(
        extension.REQUIRES not in entry for key in ("tasks", "former") for entry in body[key]
    ):
        raise FormatError(f"{where}: a task lacks '{extension.REQUIRES}'; copy the bundle again")
    return content


def _references(value: object) -> Iterator[FileRef]:
    if isinstance(value, dict) and value.keys() == {f.name for f in fields(FileRef)}:
        try:
            found = build(FileRef, value, "a file of an optional member")
        except FormatError as error:  # the caller adds where the manifest is
            raise ValueError(f"{error}; copy the bundle again") from error
        if not found.path.startswith("optional/"):
            raise ValueError(
                f"an optional member names the file '{found.path[:80]}', expected one in "
                "'optional/'; copy the bundle again"
            )
        yield found
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _references(item)


def _canonical(body: object) -> bytes:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode()
