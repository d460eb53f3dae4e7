"""Checksummed files: safetensors with one JSON document and a digest over all of it.

Artifacts, checkpoints and task files are such files. Any safetensors reader opens them; this module
also checks that nothing was altered. From schema 2 on, a kind that has features also has the
members `requires` and `optional`, see `runtime.storage.extension`; tensors of optional members are
called `optional.<member>.<name>`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from runtime.errors import FormatError
from runtime.storage import extension
from runtime.storage.digest import tensors_sha256
from runtime.storage.files import open_regular, unreadable
from runtime.storage.header import read_header
from runtime.storage.json_text import parse
from runtime.storage.writing import write_bytes

_META = "sealed"
_EXTENSIBLE = 2
"""First schema with `requires` and `optional`, of kinds that have features."""
_OPTIONAL = f"{extension.OPTIONAL}."
_DAMAGE = (SafetensorError, ValueError, TypeError, AttributeError, KeyError)
Tensors = Mapping[str, NDArray[Any]]
_Raw = tuple[Mapping[str, str], dict[str, NDArray[Any]]]
"""Metadata and tensors, not checked yet."""


@dataclass(frozen=True)
class Checksummed:
    """The content of a checksummed file."""

    document: dict[str, Any]
    tensors: dict[str, NDArray[Any]]
    """Tensors by name, fresh arrays."""
    sha256: str
    """Digest over document and tensors."""
    schema: int
    """Schema that was found."""
    requires: tuple[str, ...] = ()
    """Features, all of which this version knows."""
    optional: Mapping[str, Any] = field(default_factory=dict)
    """Members that a reader may ignore."""
    optional_tensors: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """Tensors of the optional members, `<member>.<name>`."""


def extended(
    document: Mapping[str, Any],
    tensors: Tensors,
    requires: Collection[str],
    optional: Mapping[str, Any],
    optional_tensors: Tensors,
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return a document and tensors with the members of schema 2, ready for `encode`.

    Raises:
        FormatError: A feature's name, or an optional member, is invalid.
    """
    names = extension.check_features(sorted(requires), "the file")
    members = extension.check_optional(optional, "the file")
    own = {extension.REQUIRES: list(names), extension.OPTIONAL: members}
    theirs = {_OPTIONAL + name: array for name, array in optional_tensors.items()}
    return {**document, **own}, {**tensors, **theirs}


def encode(kind: str, schema: int, document: Mapping[str, Any], tensors: Tensors) -> bytes:
    """Return the bytes of a checksummed file.

    Args:
        kind: Kind of the file, for example `uda-task`.
        schema: Version of the document's layout.
        document: JSON-serialisable mapping without the keys `kind` and `schema`.
        tensors: Arrays by name, of any numeric type.
    """
    text = json.dumps({**document, "kind": kind, "schema": schema}, sort_keys=True, allow_nan=False)
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    # One key of metadata: safetensors writes several in random order.
    return save(arrays, {_META: f"{_digest(text, arrays)} {text}"})


def write(
    path: Path, kind: str, schema: int, document: Mapping[str, Any], tensors: Tensors
) -> None:
    """Write a checksummed file atomically.

    Raises:
        StorageError: The file cannot be written.
    """
    write_bytes(path, encode(kind, schema, document, tensors))


def read(
    path: Path,
    kind: str,
    schema: int,
    *,
    oldest: int | None = None,
    features: Collection[str] | None = None,
    content: bytes | None = None,
) -> Checksummed:
    """Read a checksummed file and check kind, schema and digest.

    Args:
        path: Path of the file.
        kind: As for `encode`.
        schema: Newest schema to accept.
        oldest: Oldest schema to accept; None accepts `schema` alone.
        features: Features that this version knows; None for a kind without features.
        content: Content of the file if it was read before; then `path` is only for messages.

    Raises:
        FormatError: The file is missing, truncated, altered, of another kind or version, or
            requires a feature that is not known.
    """
    try:
        if content is None:
            # Read and not mapped, at the cost of the file's size in memory for a moment: a mapped
            # file that is truncated kills the process.
            with open_regular(path) as stream:
                content = stream.read()
        meta, tensors = _from_bytes(content)
        del content
    except OSError as error:
        raise unreadable(path, error) from error
    except _DAMAGE as error:
        raise FormatError(f"'{path}' is damaged ({error}); make or copy it again") from error
    return _checked(path, kind, (oldest or schema, schema), features, meta, tensors)


def _from_bytes(content: bytes) -> _Raw:
    header = read_header(BytesIO(content))
    # The loader checks the metadata, but does not return it.
    return header.get("__metadata__") or {}, load(content)


def _checked(
    path: Path,
    kind: str,
    schemas: tuple[int, int],
    features: Collection[str] | None,
    meta: Mapping[str, str],
    tensors: dict[str, NDArray[Any]],
) -> Checksummed:
    stored, _, text = meta.get(_META, "").partition(" ")
    try:
        document = parse(text)
    except ValueError as error:
        raise FormatError(
            f"'{path}' is not a {kind} file: its document is not JSON ({error}); copy it again"
        ) from error
    if not isinstance(document, dict) or document.get("kind") != kind:
        found = document.get("kind") if isinstance(document, dict) else None
        raise FormatError(f"'{path}' is not a {kind} file (found kind {str(found)[:60]!r})")
    (oldest, newest), schema = schemas, document.get("schema")
    if type(schema) is not int or not oldest <= schema <= newest:
        reads = f"{newest}" if oldest == newest else f"{oldest} to {newest}"
        raise FormatError(
            f"'{path}' has {kind} schema {schema!r}, this version reads {reads}; make it again "
            "with this version, or install the version that wrote it"
        )
    if others := sorted(meta.keys() - {_META}):
        raise FormatError(
            f"'{path}' has unknown metadata '{others[0][:80]}', expected '{_META}' alone; copy it "
            "again"
        )
    digest = _digest(text, tensors)
    if stored != digest:
        raise FormatError(f"'{path}' was altered: its digest does not match; copy it again")
    del document["kind"], document["schema"]
    if features is None or schema < _EXTENSIBLE:
        return Checksummed(document, tensors, digest, schema)
    requires, optional = extension.take(document, features, f"'{path}'")
    own = {name: array for name, array in tensors.items() if not name.startswith(_OPTIONAL)}
    theirs = {n.removeprefix(_OPTIONAL): a for n, a in tensors.items() if n not in own}
    return Checksummed(document, own, digest, schema, requires, optional, theirs)


def _digest(text: str, tensors: Tensors) -> str:
    return hashlib.sha256(f"{text}\n{tensors_sha256(tensors)}".encode()).hexdigest()
