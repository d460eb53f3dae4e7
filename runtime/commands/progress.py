"""Show the progress of a command."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import click

from runtime.console import ProgressCallback


@contextmanager
def step_bar() -> Iterator[ProgressCallback]:
    """Yield a callback that shows one step after the other; without a terminal, only their names.

    Nothing is shown before the first call: an error is then the only line.
    """
    with ExitStack() as stack:
        bars: list[Any] = []

        def on_progress(what: str, done: int, total: int) -> None:
            if not bars:
                shown = click.progressbar(length=100, label=what, file=sys.stderr, show_eta=False)
                bars.append(stack.enter_context(shown))
            (bar,) = bars
            # Each step starts from 0 again, and `update` cannot move a bar back.
            bar.label, bar.pos, bar.finished = what, 100 * done // max(total, 1), False
            bar.render_progress()

        yield on_progress
