"""Frozen dataclasses for tasks, tensors and preprocessing, which refuse invalid values."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Precision = Literal["fp32", "fp16", "bf16"]
"""Precision of the encoder's weights; bf16 values are stored as float32, and a backend may hold and
multiply them as bfloat16."""
Resize = Literal["squash", "crop"]
Interpolation = Literal["bilinear", "bicubic"]
Background = Literal["white", "black", "grey", "drop"]
"""Background of an image file's transparent pixels; `drop` ignores transparency."""

BACKGROUND = "background"
"""Feature of files that name a background."""

_TASK_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.]*-[A-Za-z0-9_.]+")
# Files are named after a task, and file systems take names of at most 255 bytes.
_MAX_TASK_ID = 128
_SHA256 = re.compile(r"[0-9a-f]{64}")
REJECT = 0.01
"""Share of a task's own images that may be taken for unknown, unless another is chosen."""
AUTO = "auto"
"""What is said in place of a task's id where the task is to be chosen; it cannot be an id."""
MAX_CLASSES = 100_000
MAX_AXES = 8
"""Most axes of a tensor."""
MAX_ELEMENTS = 2**32 - 1
"""Most elements of a tensor."""


def check_sha256(value: str) -> str:
    """Return `value` if it is 64 lower-case hexadecimal digits.

    Raises:
        ValueError: The value is not a digest.
    """
    if not _SHA256.fullmatch(value):
        raise ValueError(f"'{value[:80]}' is not a SHA-256 digest")
    return value


def check_task_id(value: str) -> str:
    """Return `value` if it can name a task, also in the name of a file.

    Raises:
        ValueError: The value cannot name a task.
    """
    if not _TASK_ID.fullmatch(value) or ".." in value or len(value) > _MAX_TASK_ID:
        raise ValueError(
            f"'{value[:80]}' is not a task id; one looks like 'a-c' and has at most {_MAX_TASK_ID} "
            "characters"
        )
    return value


def check_text(*values: str) -> None:
    """Check names from a file: a terminal shows them, and must not obey them.

    Raises:
        ValueError: A name is empty, or has characters that cannot be printed.
    """
    for value in values:
        if not value or not value.isprintable():
            raise ValueError(
                f"{value[:40]!a} is not a name: it is empty, not UTF-8, or has control characters"
            )


@dataclass(frozen=True)
class BaseModel:
    """The untouched CLIP weights a task was trained on."""

    architecture: str
    """open_clip's name, for example `ViT-B-16-quickgelu`."""
    pretrained: str
    """Pretrained tag, or the name of the local file."""
    sha256: str
    """Digest of the image encoder's float32 tensors, see `runtime.storage.digest`."""

    def __post_init__(self) -> None:
        check_text(self.architecture, self.pretrained)
        check_sha256(self.sha256)


@dataclass(frozen=True)
class TaskInfo:
    """A source domain, a target domain and an ordered class list."""

    id: str
    """Short name, source before target: `a-c`."""
    dataset: str
    source: str
    target: str
    classes: tuple[str, ...]
    """Class names in the order of the logits."""

    def __post_init__(self) -> None:
        check_task_id(self.id)
        if not 2 <= len(self.classes) <= MAX_CLASSES:
            raise ValueError(f"a task needs 2 to {MAX_CLASSES} classes, found {len(self.classes)}")
        check_text(self.dataset, self.source, self.target, *self.classes)
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"task '{self.id}' names a class twice")


@dataclass(frozen=True)
class Preprocess:
    """How a frame of any size becomes the pixels that a graph takes."""

    size: int
    """Height and width of the result, in pixels."""
    resize: Resize = "squash"
    """`squash` ignores the aspect ratio (CMKD's protocol), `crop` keeps it and cuts the centre."""
    interpolation: Interpolation = "bilinear"
    mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    """Mean of RGB in [0, 1]; applied inside the graph, like `std`."""
    std: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)
    background: Background = field(default="drop", compare=False)
    """Background of transparent image files. Frames have no transparency, so it is not compared."""

    def __post_init__(self) -> None:
        if not 8 <= self.size <= 4096:
            raise ValueError(f"an image size of {self.size} is outside 8..4096")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ValueError("mean and std need three values each, std above 0")

    @property
    def requires(self) -> tuple[str, ...]:
        """Features that a reader must know to make the same pixels."""
        return required(self.background)

    def as_dict(self) -> dict[str, Any]:
        """Return the values for a file; `background` is left out where it requires no feature."""
        values = asdict(self)
        if not self.requires:
            del values["background"]
        return values


def required(background: Background) -> tuple[str, ...]:
    """Return the features that a background requires of a reader."""
    return () if background == "drop" else (BACKGROUND,)


def check_required(background: Background, requires: Collection[str]) -> None:
    """Check that a file requires the feature of its background if it has one, and only then.

    Raises:
        ValueError: Background and features contradict each other.
    """
    if (BACKGROUND in requires) != (BACKGROUND in required(background)):
        raise ValueError(f"background '{background}' does not go with requires={list(requires)}")


@dataclass(frozen=True)
class TensorSpec:
    """Name, type and shape of one tensor."""

    name: str
    dtype: Literal["float32", "float16", "uint16"]
    """NumPy's name of the type; uint16, in memory only, are the bits of bfloat16 values."""
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        # Each axis first: the product of many long numbers takes quadratic time.
        if (
            len(self.shape) > MAX_AXES
            or not all(1 <= n <= MAX_ELEMENTS for n in self.shape)
            or self.size > MAX_ELEMENTS
        ):
            shown = ", ".join(f"{n:.6g}" for n in self.shape[:MAX_AXES])
            raise ValueError(f"tensor '{self.name[:80]}' has an impossible shape ({shown})")

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Number of bytes."""
        return self.size * (4 if self.dtype == "float32" else 2)
