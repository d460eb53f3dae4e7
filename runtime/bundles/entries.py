"""Entries of a manifest: files, encoders, heads and tasks."""

from __future__ import annotations

import re
from dataclasses import dataclass

from runtime.errors import FormatError
from runtime.models import (
    Interpolation,
    Preprocess,
    Resize,
    TensorSpec,
    check_sha256,
    check_task_id,
    check_text,
)
from runtime.storage import extension

CLASSES = -1
"""Axis length in a head's shapes that stands for the number of a task's classes."""
MAX_TOKENS = 1 << 24
_MAX_FILE = 1 << 63
_PATH = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*")


@dataclass(frozen=True)
class FileRef:
    """A file of the bundle: path, size and expected digest."""

    path: str
    """Path relative to the bundle, with forward slashes."""
    bytes: int
    sha256: str
    """Digest of the file; for base weights, of the tensors (`runtime.storage.digest`)."""

    def __post_init__(self) -> None:
        check_sha256(self.sha256)
        hidden = any(part.startswith(".") for part in self.path.split("/"))
        if hidden or not _PATH.fullmatch(self.path):
            raise ValueError(f"'{self.path[:80]}' is not a path inside a bundle")
        if not 1 <= self.bytes < _MAX_FILE:
            raise ValueError(f"'{self.path}' cannot have {self.bytes} bytes")


@dataclass(frozen=True)
class Encoder:
    """An encoder graph: the base alone, or the base with room for a task's tokens."""

    graph: FileRef
    blocked: FileRef | None
    """The same graph over blocked filters, for ONNX Runtime on the CPU."""
    size: int
    """Height and width of the pixels it takes."""
    mean: tuple[float, ...]
    """Mean of RGB in [0, 1]; applied inside the graph, like `std`."""
    std: tuple[float, ...]
    tokens: dict[str, tuple[int, ...]]
    """Shapes of the inputs that each task brings; none in an encoder of the base alone."""

    def __post_init__(self) -> None:
        self.preprocess("squash", "bilinear")
        check_text(*self.tokens)
        shapes = [TensorSpec(name, "float32", shape) for name, shape in self.tokens.items()]
        if any(len(s.shape) != 2 for s in shapes) or sum(s.size for s in shapes) > MAX_TOKENS:
            raise ValueError(
                f"an encoder takes tokens (n, width), at most {MAX_TOKENS} values together"
            )

    def preprocess(self, resize: Resize, interpolation: Interpolation) -> Preprocess:
        """Return the preprocessing of a task that resizes frames in this way."""
        return Preprocess(self.size, resize, interpolation, self.mean, self.std)


@dataclass(frozen=True)
class Head:
    """A head graph."""

    kind: str
    """Name to show."""
    graph: FileRef
    tensors: dict[str, tuple[int, ...]] | None
    """Shapes of the inputs beside the features, -1 for the number of a task's classes; None where
    the writer did not know them."""

    def __post_init__(self) -> None:
        tensors = self.tensors or {}
        check_text(self.kind, *tensors)
        for name, shape in tensors.items():
            TensorSpec(name, "float32", tuple(1 if size == CLASSES else size for size in shape))


@dataclass(frozen=True)
class TaskEntry:
    """A task as the manifest lists it; the rest is in its file."""

    id: str
    dataset: str
    source: str
    target: str
    classes: int
    method: str
    resize: Resize
    interpolation: Interpolation
    encoder: str
    """SHA-256 of its encoder's graph, the one that is not blocked."""
    head: str
    """SHA-256 of its head's graph."""
    changed: int
    """Number of entries that the patch changes."""
    file: FileRef
    requires: tuple[str, ...] = ()
    """Features that a reader must know to run this task."""

    def __post_init__(self) -> None:
        check_task_id(self.id)
        check_text(self.dataset, self.source, self.target, self.method)
        try:
            extension.check_features(self.requires, f"task '{self.id}'")
        except FormatError as error:  # the caller adds where the entry is from
            raise ValueError(str(error)) from error
