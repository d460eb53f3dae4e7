"""The interface of a source, which gives frames one after another."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.closing import Closing
from runtime.errors import UdaError


@dataclass(frozen=True)
class Input:
    """One file, or something else that a source can open."""

    name: str
    """Path as the user wrote it, or as it follows from a folder that the user named."""
    saved_as: str
    """Relative path under which outputs save their version of it, with forward slashes."""
    labels: tuple[str, ...] = ()
    """Candidates for its true class, the most likely first: its label in a list, or its folders."""
    labelled: bool = False
    """Whether the user labelled it, rather than that a folder may be named after its class."""
    error: UdaError | None = None
    """Why it cannot be opened, where that is known beforehand."""

    def label_of(self, classes: Collection[str]) -> str | None:
        """Return its true class, or None if no label is one of the classes."""
        return next((label for label in self.labels if label in classes), None)


@dataclass(frozen=True, eq=False)
class Item:
    """One frame of an input, or the reason why there is none."""

    input: Input
    frame: NDArray[np.uint8] | None = None
    """(H, W, 3), RGB."""
    error: UdaError | None = None
    number: int | None = None
    """Number of the frame in a video or of a camera, from 0; None for an image."""
    seconds: float | None = None
    """Time of the frame since the start of the video."""
    rate: float | None = None
    """Frames per second of the video, where it says so."""

    @property
    def name(self) -> str:
        """The input's name, with the number of the frame if there is one: `street.avi#12`."""
        return self.input.name if self.number is None else f"{self.input.name}#{self.number}"


class Source(Closing):
    """Gives the frames of some inputs, once."""

    def __init__(self) -> None:
        """Open nothing yet."""
        self.notes: list[str] = []
        """What a user should know once the frames have been read."""

    @property
    @abstractmethod
    def count(self) -> int | None:
        """The number of items as far as it is known beforehand; None if it is not."""

    @abstractmethod
    def __iter__(self) -> Iterator[Item]:
        """Yield the items in order. What cannot be read is an item with an error.

        Raises:
            UdaError: Nothing more can be read, whatever the input.
        """

    @abstractmethod
    def close(self) -> None:
        """Stop reading and release files and devices. Safe to call more than once."""
