"""Tests that build engines: TensorRT-RTX does so on any machine with Linux, without a GPU."""

from __future__ import annotations

import pytest

from runtime.errors import BackendError
from runtime.trt.library import library


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
