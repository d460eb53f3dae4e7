"""The task file: a patch, a small head, the class names. A few hundred kB for one domain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime import sealed
from runtime.errors import FormatError
from runtime.fields import build
from runtime.patch import Patch, decode, encode
from runtime.spec import TaskInfo, TensorSpec, check_sha256, check_text

KIND, SCHEMA = "uda-task", 1
_HEAD = "head."


@dataclass(frozen=True)
class Task:
    """What a device needs to judge frames of one domain."""

    info: TaskInfo
    method: str
    base_sha256: str
    """Digest of the base tensors the patch belongs to, in the bundle's precision."""
    head: str
    """SHA-256 of the head graph that `head_tensors` go into."""
    head_tensors: Mapping[str, NDArray[np.float32]]
    patch: Patch
    facts: Mapping[str, Any]
    """What a person may want to know: accuracy, density, survival. Never used to compute."""


@dataclass(frozen=True)
class _Document:
    info: TaskInfo
    method: str
    base_sha256: str
    head: str
    patch: tuple[Any, ...]
    facts: dict[str, Any]

    def __post_init__(self) -> None:
        check_text(self.method)
        check_sha256(self.base_sha256)
        check_sha256(self.head)


def encode_task(task: Task) -> bytes:
    """Return the bytes of a task file."""
    table, tensors = encode(task.patch)
    document = {
        "info": asdict(task.info),
        "method": task.method,
        "base_sha256": task.base_sha256,
        "head": task.head,
        "patch": table,
        "facts": dict(task.facts),
    }
    heads = {_HEAD + name: array for name, array in task.head_tensors.items()}
    return sealed.seal(KIND, SCHEMA, document, {**tensors, **heads})


def read_task(path: Path, base_sha256: str, layout: Mapping[str, TensorSpec]) -> Task:
    """Read and check a task file for one base.

    Args:
        path: The file.
        base_sha256: Digest of the base at hand.
        layout: The base's tensors.

    Raises:
        FormatError: The file is damaged, or belongs to another base.
    """
    file = sealed.read(path, KIND, SCHEMA)
    document = build(_Document, file.document, f"'{path}'")
    if document.base_sha256 != base_sha256:
        raise FormatError(
            f"'{path}' patches base {document.base_sha256[:12]}, this bundle holds "
            f"{base_sha256[:12]}; export the task again with this bundle's base and precision"
        )
    heads = {n.removeprefix(_HEAD): a for n, a in file.tensors.items() if n.startswith(_HEAD)}
    for name, array in heads.items():
        if array.dtype != np.float32 or not bool(np.isfinite(array).all()):
            raise FormatError(f"'{path}': head tensor '{name}' is not finite float32")
    return Task(
        document.info,
        document.method,
        document.base_sha256,
        document.head,
        heads,
        decode(list(document.patch), file.tensors, layout),
        document.facts,
    )
