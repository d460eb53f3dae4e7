"""Count results, and say how many there are when a run ends early or with errors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.console import count_of
from runtime.errors import DataError, UdaError
from runtime.outputs.base import Output, Result
from runtime.storage import disk


class Tally(Output):
    """Counts results with and without a prediction."""

    def __init__(self, paths: Collection[Path] = ()) -> None:
        """Start without results.

        Args:
            paths: Paths of the outputs that keep them, for messages.
        """
        self.good = self.failed = self.unknown = 0
        self.tasks: Counter[str] = Counter()
        """Predictions by task, where tasks were chosen and the frame is of their domain."""
        self._noun, self._paths = "image", paths
        self._error: UdaError | None = None

    def write(self, result: Result) -> None:
        """Count a result."""
        if result.error is None:
            self.good += 1
            self.unknown += result.prediction is not None and result.prediction.known is False
            route = None if result.prediction is None else result.prediction.route
            if route is not None:
                self.tasks[result.task if route.known else "none"] += 1
        else:
            self.failed, self._error = self.failed + 1, result.error
        if result.item.number is not None:
            self._noun = "frame"

    def close(self) -> None:
        """Do nothing."""

    @property
    def classified(self) -> str:
        """The number of predictions for people: `12 images`."""
        return count_of(self.good, self._noun)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Let an error or an interrupt that ends the block say how many results there are."""
        try:
            yield
        except KeyboardInterrupt as error:
            raise type(error)(f"{str(error) or 'interrupted'}{self._so_far()}") from None
        except UdaError as error:
            if not self.good + self.failed:
                raise
            raise type(error)(f"{error}{self._so_far()}") from error

    def check(self) -> None:
        """Check that every item was classified.

        Raises:
            UdaError: The error of the only item, or how many have one.
        """
        total = self.good + self.failed
        if self._error is not None and total == 1:
            raise self._error
        if self.failed:
            raise DataError(
                f"{self.failed:,} of {count_of(total, self._noun)} could not be classified; see "
                "above"
            )

    def _so_far(self) -> str:
        total = self.good + self.failed
        done = f"; {count_of(total, self._noun)} done"
        kept = [path for path in self._paths if disk.exists(path)] if total else []
        *names, last = [f"'{path}'" for path in kept] or [""]
        if last:
            done += f", see {', '.join(names)}{' and ' if names else ''}{last}"
        return done
