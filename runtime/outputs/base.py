"""The interface of an output, which takes results one after another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from runtime.errors import UdaError
from runtime.prediction import Prediction
from runtime.sources.base import Item


@dataclass(eq=False)
class Result:
    """An item of a source with its prediction, or with the reason why there is none."""

    item: Item
    task: str
    """Id of the task."""
    prediction: Prediction | None = None
    error: UdaError | None = None
    true_label: str | None = None
    """The item's true class, if it is known and one of the task's."""
    saved: str | None = None
    """Path of the annotated picture or video that an output has made of it."""

    def to_dict(self, top: int = 1) -> dict[str, Any]:
        """Return a row for a line of JSON; what is not known is left out.

        Args:
            top: Number of most likely classes.
        """
        row: dict[str, Any] = {"image": self.item.name}
        if self.item.number is not None:
            row["frame"] = self.item.number
        if self.item.seconds is not None:
            row["seconds"] = round(self.item.seconds, 3)
        row["task"] = self.task
        if self.prediction is not None:
            row |= self.prediction.to_dict(top)
        known = {"true_label": self.true_label, "saved": self.saved, "error": self.error}
        return row | {key: str(value) for key, value in known.items() if value is not None}


class Output(ABC):
    """Takes results as they come; there may be no end of them."""

    @abstractmethod
    def write(self, result: Result) -> None:
        """Take a result.

        Raises:
            UdaError: It cannot be written. What was written before is kept.
        """

    @abstractmethod
    def close(self) -> None:
        """Finish what was written, also after an error or an interrupt.

        Safe to call more than once.

        Raises:
            UdaError: It cannot be finished.
        """
