"""The inputs that one word of a command line stands for, and the files that are left out."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass, field

from runtime.console import count_of
from runtime.errors import DataError
from runtime.frames import formats, opencv
from runtime.inventory.left_out import LeftOut, counted, reasons
from runtime.sources.base import Input
from runtime.storage.spelling import composed


@dataclass
class Found:
    """The inputs of one word, or of several."""

    inputs: list[Input] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    closed: int = 0
    """Number of folders that were not entered."""
    notes: list[str] = field(default_factory=list)
    """What a user should know, one line each."""

    def add(self, other: Found) -> None:
        """Add what another word stands for."""
        self.inputs += other.inputs
        self.left_out += other.left_out
        self.closed += other.closed
        self.notes += other.notes

    def or_error(self, word: str, problem: str) -> Found:
        """Return this if it has inputs, else a single one with the error.

        Args:
            word: Word that the user wrote.
            problem: Start of the message, such as `'x' holds no images`.
        """
        if self.inputs:
            return self
        message = problem
        if self.closed:
            message += f"; it has {count_of(self.closed, 'folder')}, which --recursive enters"
        if self.left_out:
            message += f"; left out: {reasons(counted(self.left_out))}"
        return failed(word, DataError(message))


def failed(word: str, error: DataError) -> Found:
    """Return a single input with an error."""
    return Found([Input(word, "", error=error)])


def video_endings() -> Collection[str]:
    """Return the endings of videos; none without OpenCV, which reads them."""
    return formats.VIDEO if opencv.available() else ()


def parent(path: str) -> tuple[str, ...]:
    """Return the name of the folder that a file lies in, which may be that of its class."""
    name = os.path.basename(os.path.dirname(os.path.abspath(path)))
    return (composed(name),) if name else ()
