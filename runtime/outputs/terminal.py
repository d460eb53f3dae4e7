"""Print results for people, a line each, with a bar of progress below them."""

from __future__ import annotations

import itertools
import sys
from contextlib import ExitStack
from typing import Any

import click

from runtime.console import echo, erase_line
from runtime.outputs.base import Output, Result
from runtime.prediction import Prediction
from runtime.sources.base import Source
from runtime.text import printable


class Terminal(Output):
    """Prints predictions on stdout and errors on stderr; the bar is for terminals alone."""

    def __init__(
        self, top: int = 1, source: Source | None = None, *, predictions: bool = True
    ) -> None:
        """Show the bar.

        Args:
            top: Number of most likely classes to show.
            source: Source of the results, to ask for their number.
            predictions: Whether to print them, rather than errors alone.
        """
        self._top, self._predictions, self._open = top, predictions, ExitStack()
        self._first: str | None = None
        """An error that may turn out to be the only result, which is not worth two lines."""
        self._count = 0
        self._bar: Any = None
        if sys.stderr.isatty() and (predictions or not sys.stdout.isatty()):
            count = None if source is None else source.count
            given: Any = {"length": count} if count else {"iterable": itertools.count()}
            bar = click.progressbar(**given, label="predicting", file=sys.stderr, show_pos=True)
            self._bar = self._open.enter_context(bar)

    def write(self, result: Result) -> None:
        """Print a result."""
        self._count += 1
        if self._first is not None:
            self._print(self._first, err=True)
            self._first = None
        if result.prediction is not None and self._predictions:
            self._print(f"{result.item.name}: {_text(result.prediction, self._top)}")
        elif result.prediction is None:
            name, error = printable(result.item.input.name), str(result.error)
            line = f"error: {error}" if f"'{name}'" in error else f"{name}: error: {error}"
            if self._count == 1:
                self._first = line
            else:
                self._print(line, err=True)
        if self._bar is not None:
            self._bar.update(1)

    def close(self) -> None:
        """End the bar. Safe to call more than once."""
        self._bar = None
        self._open.close()

    def _print(self, line: str, *, err: bool = False) -> None:
        if self._bar is not None and (err or sys.stdout.isatty()):
            erase_line()
        echo(printable(line), err=err)


def _text(prediction: Prediction, top: int) -> str:
    """Return classes with scores, then how far they can be trusted, where the task says so."""
    text = ", ".join(f"{label} {score:.1%}" for label, score in prediction.top(top))
    if prediction.confidence is not None:
        text += f"; confidence {prediction.confidence:.1%}"
    if prediction.route is not None:
        text += f"; task {prediction.task}"
    if prediction.known is not None:
        text += f"; {'known' if prediction.known else 'unknown'}"
    if prediction.novelty is not None and prediction.affinity is not None:
        text += f", novelty {prediction.novelty:.2f}, affinity {prediction.affinity:.2f}"
    return text
