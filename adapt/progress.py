"""Show progress and warnings on the terminal."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.console import ProgressCallback


@contextmanager
def progress_bar() -> Iterator[ProgressCallback]:
    """Show a progress bar on terminals, and clear it at the end."""
    from rich.console import Console
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    # Where there is nothing to erase, rich 15 would leave an empty line.
    with Bars(console=console, transient=True, disable=not console.is_terminal) as bars:
        bar = bars.add_task("load", total=None)
        yield lambda what, done, total: bars.update(
            bar, description=what, completed=done, total=total
        )


@contextmanager
def each_warning_once() -> Iterator[None]:
    """Print each warning of the package once, however often it comes."""
    shown: set[str] = set()

    def new(record: logging.LogRecord) -> bool:
        before = len(shown)
        shown.add(record.getMessage())
        return len(shown) > before

    handler = logging.StreamHandler()
    handler.addFilter(new)
    handler.setLevel(logging.WARNING)
    logger = logging.getLogger("adapt")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
