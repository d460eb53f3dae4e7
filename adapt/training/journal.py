"""Log a run, write its metrics, show a progress bar, and handle interrupts."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import logging
import logging.handlers
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from runtime.storage.files import make_folder, storage_errors
from runtime.storage.writing import write_bytes
from runtime.text import printable

LOG, METRICS, RESULTS = "train.log", "metrics.jsonl", "results.csv"
_EARLY, _NEVER = 10_000, logging.CRITICAL + 1
"""Most records held until training begins; and a level above that of all records."""
_log = logging.getLogger("adapt")


class Journal:
    """Writes metrics.jsonl and results.csv into a folder, logs, and shows progress on stderr."""

    def __init__(self, folder: Path | None, total: int, show: bool) -> None:
        """Prepare a progress bar.

        Args:
            folder: Folder to write to; None writes nothing, for all ranks but 0.
            total: Number of iterations.
            show: Whether to show progress: a bar on a terminal, else a line per epoch.
        """
        self._folder, self._show = folder, show
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not show or not console.is_terminal,  # rich would leave a last bar in a log
        )
        self._id = self._bar.add_task("training", total=total or 1, note="")

    def __enter__(self) -> Journal:
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(printable(text), highlight=False, markup=False, soft_wrap=True)

    def advance(self, iteration: int, losses: Mapping[str, float]) -> None:
        """Move the bar to `iteration` and show the latest total loss."""
        note = f"loss {sum(losses.values()):.3f}"
        self._bar.update(self._id, completed=iteration, note=note)

    def epoch(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Write all rows so far to metrics.jsonl and results.csv, and log the last one.

        If stderr is not a terminal, the last one is printed as well.

        Raises:
            StorageError: The file cannot be written.
        """
        lines = (json.dumps(row, allow_nan=False) + "\n" for row in history)
        if self._folder is not None:
            write_bytes(self._folder / METRICS, "".join(lines).encode())
            write_bytes(self._folder / RESULTS, _csv(history).encode())
        row = history[-1]
        accuracy = "unlabelled" if row["accuracy"] is None else f"{row['accuracy']:.2f} %"
        losses = "".join(f" {name} {value:.4f}" for name, value in row["losses"].items())
        losses = losses and f",{losses}"
        extra = f", survival {row['survival']:.3f}" if row["survival"] is not None else ""
        _log.info(
            "epoch %d: accuracy %s%s, lr %.3g, density %.4f %%%s, %.1f s",
            *(
                row["epoch"],
                accuracy,
                losses,
                row["lr"],
                100 * row["density"],
                extra,
                row["seconds"],
            ),
        )
        self._bar.update(self._id, description=f"epoch {row['epoch']}: {accuracy}")
        if self._show and not self._bar.console.is_terminal:
            self.say(f"epoch {row['epoch']}: accuracy {accuracy}{losses}, {row['seconds']:.1f} s")


def _csv(history: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as a table: one column per number, per loss and per label-free score."""
    plain = ("epoch", "iteration", "lr", "density", "accuracy", "mean_per_class", "seconds")
    rows = [
        {key: row[key] for key in plain}
        | {f"loss/{name}": value for name, value in row["losses"].items()}
        | {f"score/{name}": value for name, value in row["scores"].items()}
        for row in history
    ]
    text = io.StringIO()
    table = csv.DictWriter(text, list(dict.fromkeys(k for row in rows for k in row)))
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


class _Line(logging.Formatter):
    """Formats a message as one line, even if file names have line breaks."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Return the message with control characters escaped."""
        return printable(super().formatMessage(record))


class _LogFile(logging.FileHandler):
    """A log file that ignores a full disk, which checkpoint and artifact report."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "a", "utf-8", errors="backslashreplace")

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Print no traceback between the bar and the error message."""


@contextlib.contextmanager
def log_file(folder: Path) -> Iterator[Callable[[], None]]:
    """Send the package's warnings to stderr, and its log to train.log once a run begins.

    The log is appended to, since the artifact of an earlier run may stay.

    Yields:
        Function to call when training begins, which opens the file and appends the log so far. A
        run that is refused earlier leaves no log. It raises a StorageError if the file cannot be
        written.
    """
    early = logging.handlers.MemoryHandler(_EARLY, flushLevel=_NEVER, flushOnClose=False)
    handlers: list[logging.Handler] = [early]

    def begin() -> None:
        with storage_errors(folder / LOG):
            make_folder(folder)
            file = _LogFile(folder / LOG)
        file.setFormatter(_Line("%(asctime)s %(levelname)s %(message)s"))
        handlers.append(file)
        _log.removeHandler(early)
        early.setTarget(file)
        early.flush()
        _log.addHandler(file)

    screen = logging.StreamHandler()
    screen.setLevel(logging.WARNING)
    screen.setFormatter(_Line("%(levelname)s: %(message)s"))
    level = _log.level
    _log.setLevel(logging.INFO)
    _log.addHandler(early)
    if not any(isinstance(handler, logging.StreamHandler) for handler in _log.handlers):
        _log.addHandler(screen)  # else the caller shows warnings
    try:
        yield begin
    finally:
        _log.removeHandler(screen)
        for handler in handlers:
            _log.removeHandler(handler)
            with contextlib.suppress(OSError):  # it flushes again what did not fit on the disk
                handler.close()
        _log.setLevel(level)


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether Ctrl-C or SIGTERM came; a second one ends at once.

    An iteration is always finished, so that a consistent state is saved.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set  # only the main thread may handle signals
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
