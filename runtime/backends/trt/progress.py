"""Progress of an engine build, and how Ctrl-C stops it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from runtime.backends.trt.library import trt
from runtime.console import ProgressCallback

Stopped = list[BaseException]
"""Errors that end a build; empty until one does."""


@contextmanager
def stoppable() -> Iterator[Stopped]:
    """Let Ctrl-C end what the library does in this block, at its next step, and then be raised.

    The library prints an exception that is raised in its logger, where a build spends its Python,
    and goes on. So it is kept from there, and `monitor` passes the word. An application's own
    handler stays in place, and other threads get no Ctrl-C.
    """
    stopped: Stopped = []
    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if ours:
        signal.signal(signal.SIGINT, lambda number, frame: stopped.append(KeyboardInterrupt()))
    try:
        yield stopped
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
    if stopped:
        raise stopped[0]


def monitor(on_progress: ProgressCallback, stopped: Stopped) -> trt.IProgressMonitor:
    """Return a progress monitor that reports the outermost phase and stops the build on request.

    Args:
        on_progress: Progress callback; its exceptions cannot cross the library and go to `stopped`.
        stopped: List that `stoppable` yielded.
    """

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._phase, self._steps = "", 0

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if not self._phase:
                self._phase, self._steps = phase_name, num_steps
                self._report(0)

        def phase_finish(self, phase_name: str) -> None:
            if phase_name == self._phase:
                self._phase = ""

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name == self._phase:
                self._report(step + 1)
            return not stopped

        def _report(self, done: int) -> None:
            try:
                on_progress(self._phase, done, self._steps)
            except BaseException as error:
                stopped.append(error)

    return Monitor()
