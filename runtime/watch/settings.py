"""The settings of the sources that are watched, and of what is done with their frames."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import ConfigError
from runtime.monitoring.harvest import BUDGET
from runtime.sources.live.address import redacted

STALL = 10.0
"""Seconds without a frame after which a camera is connected again."""
QUEUE = 2
"""Frames of a source that wait at most."""
DAYS = 30.0
"""Age at which a harvested image is removed."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_EXAMPLE = "--source door=rtsp://10.0.0.7/stream"


@dataclass(frozen=True)
class SourceSettings:
    """A source, and how its frames are classified.

    Raises:
        ConfigError: The name is not one, or a number is out of range.
    """

    name: str
    """Letters, digits and `_-.`, as it names files, topics and metrics."""
    where: str
    """Number or device of a camera, address, pipeline, video file or folder."""
    task: str | None = None
    """Id of the task that classifies its frames, or `auto`; None for the bundle's only one."""
    every: int = 1
    """One frame in so many is classified."""
    queue: int = QUEUE
    """Frames that wait at most; the oldest is dropped."""
    smooth: int = 1
    """Frames that the smoothed label is the mean of; 1 for none."""
    stall: float = STALL
    """Seconds without a frame after which a camera is connected again."""
    fast: bool = False
    """Whether a video file is read as fast as its frames are classified, instead of at its rate."""

    def __post_init__(self) -> None:
        check_name(self.name)
        if not self.where.strip():
            raise ConfigError(
                f"source '{self.name}' does not say where its frames come from; expected for "
                f"example {_EXAMPLE}"
            )
        # No shell does it after NAME=, and the outputs are compared with it.
        object.__setattr__(self, "where", os.path.expanduser(self.where))
        if type(self.stall) not in (int, float) or not 0 < self.stall < float("inf"):
            raise ConfigError(
                f"stall of source '{self.name}' must be a number of seconds above 0; found "
                f"{str(self.stall)[:60]!r}"
            )
        for name, value in (("every", self.every), ("queue", self.queue), ("smooth", self.smooth)):
            if type(value) is not int or value < 1:
                raise ConfigError(
                    f"{name} of source '{self.name}' must be a whole number of at least 1; found "
                    f"{str(value)[:60]!r}"
                )


@dataclass(frozen=True)
class Harvest:
    """Where frames are collected, and how many."""

    folder: Path
    """Folder of the harvest; with several sources, each has its own folder there."""
    budget: int = BUDGET
    """Bytes of each source."""
    days: float = DAYS
    """Age at which an image is removed."""


@dataclass(frozen=True)
class Monitoring:
    """What is noticed and kept of the frames of all sources."""

    drift: bool = False
    """Whether drift is watched."""
    state: Path | None = None
    """Folder that keeps the state of drift between two runs."""
    harvest: Harvest | None = None
    """None to keep no frames."""


def check_name(name: str) -> None:
    """Check the name of a source.

    Raises:
        ConfigError: It is not a name.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"the name of a source must have 1 to 64 letters (a-z), digits, '_', '-' and '.', and "
            f"begin with a letter or digit; found '{redacted(name)[:80]}'; write for example "
            f"{_EXAMPLE}"
        )


def split_source(text: str) -> tuple[str, str]:
    """Return the name and the address of `NAME=WHERE`.

    Raises:
        ConfigError: It is something else.
    """
    name, equals, where = text.partition("=")
    if not equals:
        raise ConfigError(
            f"a source must be NAME=WHERE; found '{redacted(text)[:200]}'; write for example "
            f"{_EXAMPLE}"
        )
    check_name(name)
    return name, where


def check_sources(sources: Sequence[SourceSettings]) -> None:
    """Check that there are sources, and that their names differ.

    Raises:
        ConfigError: There is none, or two have one name.
    """
    if not sources:
        raise ConfigError(f"there is no source to watch; name one, for example {_EXAMPLE}")
    names = [source.name.lower() for source in sources]  # which name files, also on FAT
    twice = [source.name for source in sources if names.count(source.name.lower()) > 1]
    if twice:
        raise ConfigError(
            f"two sources are named '{twice[0]}', or alike but for upper and lower case: "
            f"{', '.join(twice)}; give each a name of its own"
        )
