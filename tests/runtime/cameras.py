"""The camera example in a process of its own, and its modules."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
WAIT = 60  # seconds, for a machine that is busy


def start(world, *arguments, **more):
    command = [sys.executable, EXAMPLES / "camera.py", world.path, *map(str, arguments)]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, **(pipes | more))


def finish(process):
    """Return what was counted, after checking that nothing is counted twice or lost."""
    out, err = process.communicate(timeout=WAIT)
    assert process.returncode == 0, err
    counts = json.loads(out.splitlines()[-1])
    assert counts["captured"] == counts["classified"] + counts["dropped"]
    return counts


def until(process, pattern):
    """Return the first line of output that matches; the test fails at the end of the output."""
    for line in process.stdout:
        if re.fullmatch(pattern, line.strip()):
            return line.strip()
    pytest.fail(f"no line {pattern!r}: {process.stderr.read()}")


def read(path):
    source, frames = cv2.VideoCapture(str(path)), []
    while True:
        good, image = source.read()
        if not good:
            source.release()
            return frames
        frames.append(image)


@contextmanager
def importable() -> Iterator[None]:
    """Let the example's modules be imported, and forget them afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        yield
    for path in EXAMPLES.glob("*.py"):
        sys.modules.pop(path.stem, None)
