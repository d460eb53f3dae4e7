"""Tests that build engines: TensorRT-RTX does so on any machine with Linux, without a GPU."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from runtime.backends.trt.library import library
from runtime.errors import BackendError


def _targets() -> tuple[str, ...]:
    try:
        return library().targets
    except BackendError:
        return ()


NEEDS_RTX = pytest.mark.skipif(
    not _targets(),
    reason="needs tensorrt-rtx, and no tensorrt: that builds for the GPU of its machine only",
)


def rtx_version() -> str:
    """Return the library's version; without one the tests that want it are skipped."""
    return library().version if _targets() else "0"


class _Press(logging.Handler):
    def __init__(self, when: Callable[[], bool]) -> None:
        super().__init__(logging.DEBUG)
        self._when = when

    def emit(self, record: logging.LogRecord) -> None:
        if self._when():
            signal.raise_signal(signal.SIGINT)


@contextmanager
def ctrl_c(when: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Press Ctrl-C whenever the library says something: it swallows what is raised there."""
    log, handler = logging.getLogger("runtime.backends.trt.library"), _Press(when)
    level = log.level
    log.setLevel(logging.DEBUG)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
