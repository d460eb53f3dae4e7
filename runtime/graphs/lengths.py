"""Symbolic axis lengths, for any batch size and number of classes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from runtime.models import MAX_CLASSES

BATCH, CLASSES = "batch", "classes"
"""The names of the free axes."""


class Length(NamedTuple):
    """`factor * batch ** batches * classes ** classes`."""

    factor: int
    batches: int = 0
    classes: int = 0

    def __str__(self) -> str:
        parts = [BATCH] * self.batches + [CLASSES] * self.classes
        return " * ".join([str(self.factor), *parts] if self.factor > 1 or not parts else parts)

    @property
    def fixed(self) -> bool:
        """Whether it is the same number whatever the batch and the classes."""
        return not self.batches and not self.classes

    @property
    def linear(self) -> bool:
        """Whether twice the batch, or twice the classes, is at most twice as much."""
        return self.batches <= 1 and self.classes <= 1

    @property
    def most(self) -> int:
        """The number for one frame and as many classes as a task may have."""
        return self.factor * (MAX_CLASSES if self.classes else 1)


Shape = tuple[Length, ...]
ONE = Length(1)


def length(value: int | str) -> Length:
    """Return the length of an axis: a number, or the name of a free one."""
    if isinstance(value, int):
        return Length(value)
    return Length(1, 1, 0) if value == BATCH else Length(1, 0, 1)


def product(shape: Iterable[Length]) -> Length:
    """Return the number of elements of a shape."""
    factor, batches, classes = 1, 0, 0
    for each in shape:
        factor, batches, classes = (
            factor * each.factor,
            batches + each.batches,
            classes + each.classes,
        )
    return Length(factor, batches, classes)


def divided(all_of: Length, part: Length) -> Length | None:
    """Return `all_of` divided by `part`, or None if there is a remainder."""
    if (
        all_of.factor % part.factor
        or part.batches > all_of.batches
        or part.classes > all_of.classes
    ):
        return None
    return Length(
        all_of.factor // part.factor, all_of.batches - part.batches, all_of.classes - part.classes
    )


def described(shape: Shape) -> str:
    """Return a shape for a message."""
    return f"({', '.join(map(str, shape))})"
