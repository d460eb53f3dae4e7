"""The interface of a sink, which takes observations as they come."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

from runtime.watch.observation import Observation
from runtime.watch.status import SourceStatus


class Watched(Protocol):
    """What sinks may ask of the program that feeds them, from any thread."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """The ids of the bundle's tasks, as they are now."""

    @property
    def can_route(self) -> bool:
        """Whether `auto` can be chosen."""

    def status(self) -> Sequence[SourceStatus]:
        """Return what every source has done so far."""

    def choose(self, source: str, task: str) -> None:
        """Have a source's next frames classified by a task, or by `auto`.

        Raises:
            ConfigError: There is no such source.
            TaskError: The bundle has no such task, or cannot route frames.
            FormatError: The task's file is damaged.
        """


class Sink(ABC):
    """Takes observations. It must not let the caller wait for a disk, a network or a viewer."""

    def start(self, watched: Watched) -> None:  # noqa: B027 - most sinks ask nothing
        """Begin, once the sources are known and before the first observation.

        Raises:
            UdaError: It cannot begin, as where a port is taken.
        """

    @abstractmethod
    def take(self, observation: Observation) -> None:
        """Take an observation; those of one source come in order, from whatever thread.

        It raises nothing that may pass: what cannot be delivered is dropped and counted, and said
        once a minute at most.
        """

    @abstractmethod
    def close(self) -> None:
        """Deliver what can be delivered within a second, and end. Safe to call more than once."""
