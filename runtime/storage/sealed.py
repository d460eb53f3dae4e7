"""Sealed files: safetensors with one JSON document and a digest over all of it.

Artifacts and task files are sealed. Any safetensors reader opens them; this module also checks that
nothing was altered.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

from runtime.errors import FormatError
from runtime.storage.digest import tensors_sha256
from runtime.storage.files import write_bytes

_META = "sealed"
_DAMAGE = (OSError, SafetensorError, ValueError, TypeError, AttributeError, KeyError)
Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Sealed:
    """The content of a sealed file."""

    document: dict[str, Any]
    tensors: dict[str, NDArray[Any]]
    """Fresh arrays."""
    sha256: str
    """Digest over document and tensors."""


def seal(kind: str, schema: int, document: Mapping[str, Any], tensors: Tensors) -> bytes:
    """Return the bytes of a sealed file.

    Args:
        kind: What the file is, for example `uda-task`.
        schema: Version of the document's layout.
        document: JSON-serialisable; must not use the keys `kind` and `schema`.
        tensors: Arrays by name, any numeric type.
    """
    text = json.dumps({**document, "kind": kind, "schema": schema}, sort_keys=True, allow_nan=False)
    arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    # One key of metadata: safetensors writes several in random order.
    return save(arrays, {_META: f"{_digest(text, arrays)} {text}"})


def write(
    path: Path, kind: str, schema: int, document: Mapping[str, Any], tensors: Tensors
) -> None:
    """Write a sealed file atomically.

    Raises:
        StorageError: The file cannot be written.
    """
    write_bytes(path, seal(kind, schema, document, tensors))


def read(path: Path, kind: str, schema: int) -> Sealed:
    """Read a sealed file and check kind, schema and digest.

    Raises:
        FormatError: The file is missing, truncated, altered, of another kind or version.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            meta = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    return _checked(path, kind, schema, meta, tensors)


def parse(content: bytes, path: Path, kind: str, schema: int) -> Sealed:
    """Return what the bytes of a sealed file hold, after the checks of `read`.

    Args:
        content: Of the whole file.
        path: Where it came from, for messages.
        kind: As for `seal`.
        schema: As for `seal`.

    Raises:
        FormatError: The content is truncated, altered, of another kind or version.
    """
    try:
        tensors = load(content)
        # The loader gives no metadata; it found the header's length and JSON to be sound.
        meta = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    return _checked(path, kind, schema, meta.get("__metadata__") or {}, tensors)


def _damaged(path: Path, error: BaseException) -> FormatError:
    return FormatError(f"'{path}' is missing or damaged ({error}); make or copy it again")


def _checked(
    path: Path,
    kind: str,
    schema: int,
    meta: Mapping[str, str],
    tensors: dict[str, NDArray[Any]],
) -> Sealed:
    stored, _, text = meta.get(_META, "").partition(" ")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"'{path}' is no {kind} file: its document is not JSON") from error
    if not isinstance(document, dict) or document.get("kind") != kind:
        found = document.get("kind") if isinstance(document, dict) else None
        raise FormatError(f"'{path}' is not a {kind} file (found kind {found!r})")
    if document.get("schema") != schema:
        raise FormatError(
            f"'{path}' has {kind} schema {document.get('schema')!r}, this version reads {schema}; "
            "make it again with this version, or install the version that wrote it"
        )
    digest = _digest(text, tensors)
    if stored != digest:
        raise FormatError(f"'{path}' was altered: its digest does not match; copy it again")
    del document["kind"], document["schema"]
    return Sealed(document, tensors, digest)


def _digest(text: str, tensors: Tensors) -> str:
    return hashlib.sha256(f"{text}\n{tensors_sha256(tensors)}".encode()).hexdigest()
