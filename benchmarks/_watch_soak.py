"""The acceptance of `uda-runtime watch`: the command itself, two sources, all outputs, viewers.

A drawn street, and a Motion JPEG camera of ffmpeg that is killed every 20 seconds. Tasks are chosen
through the page, `auto` among them where the bundle can, and one is installed half way. What must
be true then is in `benchmarks._watch_verdict`.
"""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np

import runtime
from benchmarks._watch_cost import VIEWERS
from benchmarks._watch_servers import broker, flapping, viewers
from runtime.models import AUTO
from tests.runtime.sources.servers import free_port

SOURCES = ("street", "camera")
UP, DOWN = 16.0, 4.0
"""Seconds that the camera is there, and is not."""
CHOOSE, LOOK = 2.0, 1.0
"""Seconds between two choices of a task, and between two looks at the memory."""
_PATIENCE = 60.0


class Choice(NamedTuple):
    """A task that was chosen for a source."""

    source: str
    task: str
    asked: float
    """When it was asked for, in seconds since 1970: from here on frames may have it."""
    answered: float
    """When that was answered: from here on frames must have it."""


class Ended(NamedTuple):
    """A run that is over."""

    folder: Path
    """The files of `Command`, which has ended."""
    status: int
    errors: list[str]
    """Lines of stderr."""
    choices: list[Choice]
    installed: str
    memory: list[tuple[float, int]]
    """Seconds since the start, and resident bytes."""
    kills: int
    """How often the camera was killed."""
    viewers: dict[str, Any]
    """What they got, see `benchmarks._watch_viewers`."""


class Command:
    """`uda-runtime watch` with all outputs: out.jsonl, out.csv, pictures, report.json, stderr."""

    def __init__(self, folder: Path, bundle: Path, whole: Path, camera: str, mqtt: int) -> None:
        """Start it.

        Args:
            folder: Folder of all files.
            bundle: Bundle to watch with.
            whole: The same with all tasks that it will have, to check against.
            camera: Address of the camera.
            mqtt: Port of a broker.
        """
        self.web, self.metrics = free_port(), free_port()
        self.tasks = list(runtime.Bundle.open(bundle).tasks)
        self.choices: list[Choice] = []
        self._folder = folder
        where = dict(zip(SOURCES, ("demo:", camera), strict=True))
        words = [
            *(sys.executable, "-m", "benchmarks._watch_check", "watch", bundle),
            *(word for name in SOURCES for word in ("--source", f"{name}={where[name]}")),
            *("--task", self.tasks[0], "--threads", "1", "--smooth", "5", "--control"),
            *("--jsonl", folder / "out.jsonl", "--csv", folder / "out.csv"),
            *("--save", folder / "pictures", "--save-budget", "20"),
            *("--mqtt", f"mqtt://127.0.0.1:{mqtt}", "--metrics", self.metrics),
            *("--web", self.web, "--check", folder / "report.json", "--check-bundle", whole),
        ]
        with (folder / "stderr").open("w") as errors:
            self.process = subprocess.Popen(
                [str(word) for word in words], stdout=subprocess.DEVNULL, stderr=errors
            )
        now = time.time()
        self.choices += [Choice(name, self.tasks[0], now, now) for name in SOURCES]

    def wait_for_start(self) -> None:
        """Wait until it serves its page, and learn whether it can choose tasks itself."""
        end = time.monotonic() + _PATIENCE
        while (refused := self._ask(SOURCES[0], self.tasks[0])) is None:
            self.check()
            if time.monotonic() > end:
                raise click.ClickException(f"the page does not come: {self.errors()}")
            time.sleep(0.2)
        assert refused == "", refused
        if refused := self.choose(SOURCES[0], AUTO):
            click.echo(f"'auto' is not tried: {refused}")
        else:
            self.tasks.append(AUTO)

    def choose(self, source: str, task: str) -> str:
        """Choose a task through the page; return why that is refused."""
        asked = time.time()
        refused = self._ask(source, task)
        if refused is None:
            raise click.ClickException(f"the page is gone: {self.errors()}")
        if not refused:
            self.choices.append(Choice(source, task, asked, time.time()))
        return refused

    def wait_for_task(self, task: str) -> None:
        """Wait until it knows a task that was installed, which it then uses."""
        end = time.monotonic() + _PATIENCE
        while refused := self.choose(SOURCES[0], task):
            if time.monotonic() > end:
                raise click.ClickException(f"a task that was installed does not come: {refused}")
            time.sleep(0.2)
        self.tasks.append(task)

    def check(self) -> None:
        """Raise an error if it has ended."""
        if self.process.poll() is not None:
            raise click.ClickException(f"the command has ended: {self.errors()}")

    def resident(self) -> int:
        """Return its resident bytes."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS:"))

    def end(self) -> int:
        """End it; return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            return -1

    def errors(self) -> list[str]:
        """Return the lines of its stderr."""
        return (self._folder / "stderr").read_text().splitlines()

    def _ask(self, source: str, task: str) -> str | None:
        """Post a choice; return the reason of a refusal, empty for none, or None without a page."""
        link = http.client.HTTPConnection("127.0.0.1", self.web, timeout=_PATIENCE)
        origin = f"http://127.0.0.1:{self.web}"
        headers = {"Origin": origin, "Content-Type": "application/json"}
        try:
            link.request("POST", "/choose", json.dumps({"source": source, "task": task}), headers)
            answer = link.getresponse().read()
        except OSError:
            return None
        finally:
            link.close()
        return str(json.loads(answer)["error"]) if answer else ""


def run(demo: Path, folder: Path, seconds: float) -> Ended:
    """Run the command for so many seconds.

    Args:
        demo: Bundle with two tasks or more; the last one is installed half way.
        folder: Empty folder to write to.
        seconds: Length of the run.

    Raises:
        click.ClickException: The bundle has one task alone, or the command ends or refuses.
    """
    whole, bundle = folder / "whole.bundle", folder / "live.bundle"
    for copy in (whole, bundle):
        shutil.copytree(demo, copy)
    *tasks, new = runtime.Bundle.open(whole).manifest.tasks
    if not tasks:
        raise click.ClickException(f"'{demo}' has one task alone; run make demo")
    runtime.remove(bundle, new.id)
    with flapping(UP, DOWN) as camera, broker(folder) as server:
        command = Command(folder, bundle, whole, camera.where, server.port)
        try:
            command.wait_for_start()
            with viewers(command.web, command.metrics, server.port, VIEWERS) as looking:
                looking.go()
                memory = _disturb(command, seconds, bundle, whole / new.file.path)
                seen = looking.stop()
            kills, status = camera.kills, command.end()
        finally:
            command.process.kill()
            command.process.wait(_PATIENCE)
    return Ended(folder, status, command.errors(), command.choices, new.id, memory, kills, seen)


def _disturb(command: Command, seconds: float, bundle: Path, file: Path) -> list[tuple[float, int]]:
    """Choose tasks for so many seconds, and install one half way; return the memory."""
    draw, begin, memory = np.random.default_rng(0), time.monotonic(), []
    next_choice, known = begin, len(command.tasks)
    while (passed := time.monotonic() - begin) < seconds:
        command.check()
        memory.append((passed, command.resident()))
        if passed > seconds / 2 and len(command.tasks) == known:
            command.wait_for_task(runtime.install(bundle, file).id)
        if time.monotonic() >= next_choice:
            next_choice = time.monotonic() + CHOOSE
            source, task = str(draw.choice(SOURCES)), str(draw.choice(command.tasks))
            if refused := command.choose(source, task):
                raise click.ClickException(f"choosing {task} is refused: {refused}")
        time.sleep(LOOK)
    return memory
