"""Look after a watcher once a second: new tasks, and what is kept for the next start."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from runtime.console import echo
from runtime.errors import UdaError
from runtime.text import printable
from runtime.watch.notes import MINUTE, Notes
from runtime.watch.tasks import TaskRefresher

_SECOND = 1.0


class Upkeep:
    """A thread of low demand beside the workers, so that no frame waits for a disk."""

    def __init__(
        self,
        refresher: TaskRefresher,
        notes: Notes,
        on_change: Callable[[tuple[str, ...]], object],
        keep: Callable[[], object],
        on_failure: Callable[[BaseException], object],
    ) -> None:
        """Start the thread.

        Args:
            refresher: Takes over tasks.
            notes: Where errors go.
            on_change: Called with the ids of tasks that have changed.
            keep: Called once a minute, to save states.
            on_failure: Called with what ends the thread before its time.
        """
        self._refresher, self._notes = refresher, notes
        self._on_change, self._keep, self._on_failure = on_change, keep, on_failure
        self._wake, self._closed, self._asked = threading.Event(), False, False
        self._kept = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="uda-upkeep", daemon=True)
        self._thread.start()

    def refresh(self) -> None:
        """Take over changed tasks soon, and say what has changed."""
        self._asked = True
        self._wake.set()

    def close(self) -> None:
        """End the thread. Safe to call more than once."""
        self._closed = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            self._look_after()
        except BaseException as error:  # nobody else would hear of it
            self._on_failure(error)

    def _look_after(self) -> None:
        while not self._closed:
            self._wake.wait(_SECOND)
            self._wake.clear()
            asked, self._asked = self._asked, False
            if not self._closed and (asked or self._refresher.due()):
                self._refresh(asked)
            if time.monotonic() - self._kept >= MINUTE:
                self._kept = time.monotonic()
                self._keep()

    def _refresh(self, asked: bool) -> None:
        try:
            changed = self._refresher.refresh()
        except UdaError as error:
            text = f"warning: {error}; continuing with {', '.join(self._refresher.tasks)}"
            if asked:
                echo(printable(text), err=True)
            else:
                self._notes.say("tasks", text)
            return
        if changed:
            self._on_change(changed)
        if changed or asked:
            text = f"tasks changed: {', '.join(changed) or 'nothing'}; now "
            echo(printable(text + ", ".join(self._refresher.tasks)), err=True)
