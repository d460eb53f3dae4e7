"""Read and write task files: a patch, a small head, tokens and class names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.bundles.entries import FileRef, TaskEntry
from runtime.errors import FormatError
from runtime.models import (
    BACKGROUND,
    Background,
    Interpolation,
    Precision,
    Resize,
    TaskInfo,
    TensorSpec,
    check_required,
    check_sha256,
    check_text,
)
from runtime.patch import PREFIX, Patch, count, decode, encode, read_table, size
from runtime.storage import checksummed
from runtime.storage.fields import build

KIND, SCHEMA, OLDEST = "uda-task", 2, 1
FEATURES = frozenset({BACKGROUND})
"""Features that a task may require of this version."""
_HEAD, _TOKENS = "head.", "tokens."


@dataclass(frozen=True)
class Task:
    """What a device needs to classify frames of one domain."""

    info: TaskInfo
    method: str
    resize: Resize
    """How to resize frames for the encoder, see `runtime.models.Preprocess`."""
    interpolation: Interpolation
    base_sha256: str
    """Digest of the base tensors the patch belongs to, in the bundle's precision."""
    encoder: str
    """SHA-256 of the encoder graph that runs it, the one that is not blocked."""
    tokens: Mapping[str, NDArray[Any]]
    """Inputs of that graph beside the base, (n, W) each, in the bundle's precision."""
    head: str
    """SHA-256 of the head graph that takes `head_tensors`."""
    head_tensors: Mapping[str, NDArray[np.float32]]
    patch: Patch
    record: Mapping[str, Any]
    """How the task was made: accuracy, density, survival; only to be shown."""
    background: Background = "drop"
    """Background of image files; all but the default require a feature, see `runtime.models`."""
    requires: tuple[str, ...] = ()
    """Features that a reader must know."""
    optional: Mapping[str, Any] = field(default_factory=dict)
    """Members that a reader may ignore; they never change a label."""
    optional_tensors: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """Tensors of the optional members, `<member>.<name>`."""
    schema: int = SCHEMA
    """Schema of the task's file."""


@dataclass(frozen=True)
class _Document:
    info: TaskInfo
    method: str
    resize: Resize
    interpolation: Interpolation
    base_sha256: str
    encoder: str
    head: str
    patch: tuple[Any, ...]
    facts: dict[str, Any]
    background: Background = "drop"

    def __post_init__(self) -> None:
        check_text(self.method)
        for digest in (self.base_sha256, self.encoder, self.head):
            check_sha256(digest)


def encode_task(task: Task) -> bytes:
    """Return the bytes of a task file of the task's schema.

    Schema 1 has no optional members, which are left out.

    Raises:
        FormatError: The task requires a feature, and its schema is 1; or its background and what it
            requires do not go together.
    """
    _check_background(task)
    table, tensors = encode(task.patch)
    plain = ("method", "resize", "interpolation", "base_sha256", "encoder", "head")
    document: dict[str, Any] = {
        **{name: getattr(task, name) for name in plain},
        "info": asdict(task.info),
        "patch": table,
        "facts": dict(task.record),
    }
    if task.background != "drop":  # of which earlier versions know nothing
        document[BACKGROUND] = task.background
    heads = {_HEAD + name: array for name, array in task.head_tensors.items()}
    tokens = {_TOKENS + name: array for name, array in task.tokens.items()}
    arrays: dict[str, NDArray[Any]] = {**tensors, **heads, **tokens}
    if task.schema > OLDEST:
        document, arrays = checksummed.extended(
            document, arrays, task.requires, task.optional, task.optional_tensors
        )
    elif task.requires:
        hint = "train it with --set background=drop" if BACKGROUND in task.requires else ""
        raise FormatError(
            f"task '{task.info.id}' requires the feature '{task.requires[0]}', but task files of "
            f"schema {task.schema}, which --schema 2 asks for, have no features; "
            f"{hint or 'leave out --schema 2'}"
        )
    return checksummed.encode(KIND, task.schema, document, arrays)


def decode_task(
    content: bytes,
    path: Path,
    base_sha256: str,
    layout: Mapping[str, TensorSpec],
    entry: TaskEntry | None = None,
) -> Task:
    """Return the task that the bytes of a task file hold, checked for one base.

    Args:
        content: Content of the whole file.
        path: Path of the file, for messages.
        base_sha256: Digest of the bundle's base.
        layout: Layout of the base's tensors.
        entry: Entry of the manifest that names the file, if there is one.

    Raises:
        FormatError: The file is damaged, or belongs to another base.
    """
    file = checksummed.read(path, KIND, SCHEMA, oldest=OLDEST, features=FEATURES, content=content)
    document = build(_Document, file.document, f"'{path}'")
    if document.base_sha256 != base_sha256:
        raise FormatError(
            f"'{path}' patches base {document.base_sha256[:12]}, this bundle holds "
            f"{base_sha256[:12]}; export the task again with this bundle's base and precision"
        )
    rows = read_table(list(document.patch), layout)
    if entry is not None and count(rows) != entry.changed:  # before memory is taken for them
        raise FormatError(
            f"'{path}' is not the file of task '{entry.id}' in this bundle: it changes "
            f"{count(rows)} entries, the manifest says {entry.changed}; copy the bundle again"
        )
    _check_tensors(path, file.tensors)
    task = Task(
        info=document.info,
        method=document.method,
        resize=document.resize,
        interpolation=document.interpolation,
        base_sha256=document.base_sha256,
        encoder=document.encoder,
        tokens=_part(file.tensors, _TOKENS),
        head=document.head,
        head_tensors=_part(file.tensors, _HEAD),
        patch=decode(rows, file.tensors, layout),
        record=document.facts,
        background=document.background,
        requires=file.requires,
        optional=file.optional,
        optional_tensors=file.optional_tensors,
        schema=file.schema,
    )
    _check_background(task)
    return task


Members = tuple[Mapping[str, Any], Mapping[str, NDArray[Any]], Background]
"""Optional members of a task file, their tensors, and the task's background."""


def read_members(content: bytes, path: Path) -> Members:
    """Return the optional members of a task file, without decoding its patch.

    Args:
        content: Content of the whole file.
        path: Path of the file, for messages.

    Raises:
        FormatError: The file is damaged.
    """
    file = checksummed.read(path, KIND, SCHEMA, oldest=OLDEST, features=FEATURES, content=content)
    document = build(_Document, file.document, f"'{path}'")
    return file.optional, file.optional_tensors, document.background


def _check_tensors(path: Path, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Check that every tensor is known, and that those of the head are finite float32."""
    kinds = (PREFIX, _HEAD, _TOKENS)
    if others := [name for name in tensors if not name.startswith(kinds)]:
        raise FormatError(
            f"'{path}' has an unknown tensor '{min(others)[:80]}'; export the task again"
        )
    for name, array in _part(tensors, _HEAD).items():
        if array.dtype != np.float32 or not bool(np.isfinite(array).all()):
            raise FormatError(f"'{path}': head tensor '{name}' is not finite float32")


def entry_of(task: Task, file: FileRef) -> TaskEntry:
    """Return the manifest's entry of a task in `file`."""
    info = task.info
    return TaskEntry(
        id=info.id,
        dataset=info.dataset,
        source=info.source,
        target=info.target,
        classes=len(info.classes),
        method=task.method,
        resize=task.resize,
        interpolation=task.interpolation,
        encoder=task.encoder,
        head=task.head,
        changed=size(task.patch),
        file=file,
        requires=task.requires,
    )


def token_type(precision: Precision) -> str:
    """Return the type of tokens in a bundle of a precision."""
    return "float16" if precision == "fp16" else "float32"


def _check_background(task: Task) -> None:
    try:
        check_required(task.background, task.requires)
    except ValueError as error:
        raise FormatError(f"task '{task.info.id}': {error}; export the task again") from error


def _part(tensors: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {n.removeprefix(prefix): a for n, a in tensors.items() if n.startswith(prefix)}
