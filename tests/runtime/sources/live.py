"""Helpers for tests of live sources."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from runtime.sources.live.base import LiveFrame
from runtime.sources.live.camera import Camera

WAIT = 120.0
"""Seconds, for a machine that is busy."""
SIZE = (64, 48)


def until(condition: Callable[[], object], seconds: float = WAIT) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not come true"
        time.sleep(0.01)


def rest(camera: Camera) -> list[LiveFrame]:
    """Return all frames of a camera that has an end."""
    frames = []
    try:
        while True:
            frame = camera.frames.get(WAIT)
            assert frame is not None
            frames.append(frame)
    except EOFError:
        return frames


def take(camera: Camera, count: int) -> list[LiveFrame]:
    """Return the next frames of a camera."""
    frames = [camera.frames.get(WAIT) for _ in range(count)]
    assert None not in frames, camera.error
    return frames


def film(path: Path, count: int, rate: float = 100.0) -> Path:
    """Write a video of frames of one grey each, which says their number."""
    cv2 = pytest.importorskip("cv2", reason="the extra [camera] is not installed")
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate, SIZE)
    for number in range(count):
        writer.write(np.full((SIZE[1], SIZE[0], 3), 2 * number, np.uint8))
    writer.release()
    return path


def program(name: str) -> str:
    """Return the path of an optional program; the test is skipped without it."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def system_python(*modules: str) -> str:
    """Return a Python that can import modules of the system; the test is skipped without one."""
    for python in ("/usr/bin/python3", shutil.which("python3")):
        code = "; ".join(f"import {module}" for module in modules)
        if python and subprocess.run([python, "-c", code], capture_output=True).returncode == 0:
            return python
    pytest.skip(f"no Python of the system has {', '.join(modules)}")
