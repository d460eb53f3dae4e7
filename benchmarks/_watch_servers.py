"""Programs around `uda-runtime watch`: a broker, viewers, and a camera that goes and comes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from tests.runtime.sources.servers import ending, free_port, mjpeg_server

PLACES = "/usr/local/sbin:/usr/sbin:/usr/local/bin:/usr/bin"
"""Where programs are found that are not for every user."""


def needs(*programs: str) -> None:
    """Check that programs are installed.

    Raises:
        click.ClickException: One is not.
    """
    for name in programs:
        if shutil.which(name) is None and shutil.which(name, path=PLACES) is None:
            raise click.ClickException(f"{name} is not installed; run apt-get install {name}")


class Broker:
    """A mosquitto for this machine alone."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        config = folder / "mosquitto.conf"
        # It would give up root for a user who may not read our files.
        lines = ("user root", f"listener {self.port} 127.0.0.1", "allow_anonymous true", "")
        config.write_text("\n".join(lines))
        program = shutil.which("mosquitto") or shutil.which("mosquitto", path=PLACES)
        self.process = subprocess.Popen([str(program), "-c", config], stderr=subprocess.DEVNULL)

    def cpu_seconds(self) -> float:
        """Return the processor time that it has taken."""
        return cpu_seconds(self.process.pid)


def cpu_seconds(process: int) -> float:
    """Return the processor time that a process has taken."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


@contextmanager
def broker(folder: Path) -> Iterator[Broker]:
    """Run a broker."""
    found = Broker(folder)
    with ending(found.process):
        yield found


class Viewers:
    """The process of `benchmarks._watch_viewers`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def go(self) -> None:
        """Have all of them connect, and wait until each has seen something."""
        self._say("go")
        self._line()

    def stop(self) -> dict[str, Any]:
        """Have all of them leave; return what they got."""
        self._say("stop")
        found: dict[str, Any] = json.loads(self._line())
        return found

    def _say(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise click.ClickException("the viewers have ended; see the lines above")
        return line


@contextmanager
def viewers(web: int, metrics: int, mqtt: int, count: int) -> Iterator[Viewers]:
    """Run a process of viewers, of whom nobody looks yet."""
    numbers = [str(number) for number in (web, metrics, mqtt, count)]
    command = [sys.executable, "-m", "benchmarks._watch_viewers", *numbers]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, **pipes)  # type: ignore[call-overload]
    with ending(process):
        yield Viewers(process)


class Flapping(threading.Thread):
    """A camera (ffmpeg, Motion JPEG over HTTP) that is killed again and again, and comes back."""

    def __init__(self, up: float, down: float) -> None:
        super().__init__(daemon=True)
        self.port, self.kills = free_port(), 0
        self._up, self._down, self._end = up, down, threading.Event()

    @property
    def where(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}/camera"

    def run(self) -> None:
        while not self._end.is_set():
            with ending(mjpeg_server(self.port, "640x360")):
                self._end.wait(self._up)
            if not self._end.wait(self._down):
                self.kills += 1

    def close(self) -> None:
        """End it."""
        self._end.set()
        self.join(60)


@contextmanager
def flapping(up: float, down: float) -> Iterator[Flapping]:
    """Run a camera that is there for so many seconds, away for so many, and so on."""
    found = Flapping(up, down)
    found.start()
    try:
        yield found
    finally:
        found.close()


def waited(seconds: float, end: float) -> bool:
    """Sleep for so many seconds, or until `end`; return whether that has come."""
    time.sleep(max(0.0, min(seconds, end - time.monotonic())))
    return time.monotonic() >= end
