"""A base class of objects that a `with` block closes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TypeVar

C = TypeVar("C", bound="Closing")


class Closing(ABC):
    """An object that holds resources; a context manager that closes it at the end of its block."""

    @abstractmethod
    def close(self) -> None:
        """Release the resources. Safe to call more than once."""

    def __enter__(self: C) -> C:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
