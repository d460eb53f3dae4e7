"""Kill commands at disk operations; nothing may be lost, or left over after the next run.

    python -m benchmarks.kills [--kills 500] [--json FILE]

`make acceptance PART=kills` runs this. Each command works on a copy of the folder that it starts
from, in a forked process that ends with SIGKILL before one of its steps: a write, in two halves, a
sync, a rename, a new file or folder. Then everything that was there before must be whole, as the
old version or the new one; the same command, run again, must end well, with the results of a run
that was never killed, and leave the same files, none more, in the folder, its caches and its folder
for temporary files. Exits with 1 if anything was lost or is left over.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks._kill_steps import Steps
from benchmarks._kill_world import Command, commands, prepare, use
from benchmarks.switches import commit
from runtime.benchmark.latency import machine
from runtime.console import table, write_json

KILLS = 500
SHOWN = ("steps", "kills", "lost", "left_over", "seconds")
_DIGEST = re.compile("[0-9a-f]{16,}")
_KNOWN = {"cache/contents", "cache/contents/*.safetensors"}
"""Cache of digests: those of files are stored once the files are two seconds old."""


@dataclass
class Counts:
    """Counts of one command."""

    steps: int = 0
    """Steps of a run that is not killed."""
    kills: int = 0
    lost: int = 0
    """Kills after which something was not whole, or the next run failed or had another result."""
    left_over: int = 0
    """Kills after which the next run left other files than a run that was not killed."""
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    """What was lost or left over."""


def in_child(function: Callable[[], Any], log: Path) -> tuple[int, Any]:
    """Run a function in a forked process; return its exit status, -9 if killed, and its result.

    Args:
        function: Function whose result can be JSON.
        log: File for the output; the result goes to a file beside it.
    """
    result = log.with_suffix(".json")
    child = os.fork()
    if child == 0:
        status = 70
        try:
            with log.open("wb") as stream:
                os.dup2(stream.fileno(), 1)
                os.dup2(stream.fileno(), 2)
            result.write_text(json.dumps(function()))
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
        finally:
            os._exit(status)  # never on into the parent's loop
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status, json.loads(result.read_text()) if status == 0 else None


class Trial:
    """Kills one command again and again."""

    def __init__(self, root: Path, command: Command) -> None:
        """Run the command once to its end.

        Args:
            root: Folder that holds the one the command starts from.
            command: Command to kill.
        """
        self.command, self.counts = command, Counts()
        self.start, self.work, self.log = root / command.start, root / "work", root / "log"
        self.fresh()
        self.old = self.state()
        steps, self.modules = self.run(-1)
        self.counts.steps = len(steps)
        self.new, self.names = self.state(), self.listing()

    def fresh(self) -> None:
        """Copy the start folder anew."""
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self.start, self.work)

    def run(self, kill_at: int) -> Any:
        """Run the command; return its steps and the names of its modules, or None if killed.

        Raises:
            RuntimeError: The command failed.
        """

        def work() -> Any:
            use(self.work)
            steps = Steps(kill_at, self.work)
            steps.watch()
            self.command()
            steps.kill_at = -1
            return steps.log, sorted(sys.modules)

        status, found = in_child(work, self.log)
        if status not in (0, -signal.SIGKILL):
            raise RuntimeError(self.log.read_text(errors="replace")[-500:])
        return found

    def state(self) -> Any:
        """Return the versions of what is whole.

        Raises:
            RuntimeError: Something is damaged.
        """
        status, found = in_child(lambda: self.command.state(self.work), self.log)
        if status:
            raise RuntimeError(self.log.read_text(errors="replace")[-500:])
        return found

    def listing(self) -> list[str]:
        """Return the paths of all files and folders, without digests: an engine's may vary."""
        below = (str(path.relative_to(self.work)) for path in self.work.rglob("*"))
        return sorted({_DIGEST.sub("*", path) for path in below} - _KNOWN)

    def kill(self, step: int) -> None:
        """Kill the command at a step, check what is left, run it again, and check again."""
        counts = self.counts
        self.fresh()
        if self.run(step) is not None:
            return  # it had fewer steps this time
        counts.kills += 1
        try:
            self.check(self.state())
            self.run(-1)
            if (found := self.state()) != self.new:
                raise RuntimeError(f"the next run gave {found}, not {self.new}")
        except RuntimeError as error:
            counts.lost += 1
            counts.notes.append(f"step {step}: {error}")
        if (names := self.listing()) != self.names:
            counts.left_over += 1
            counts.notes.append(f"step {step}: {sorted(set(names) ^ set(self.names))}")

    def check(self, found: Any) -> None:
        """Compare every part with the old and the new version.

        Raises:
            RuntimeError: A part is missing, or neither.
        """
        if found in (self.old, self.new):
            return
        old, new = (dict(versions or ()) for versions in (self.old, self.new))
        parts = dict(found)
        wrong = {n: v for n, v in parts.items() if v not in (old.get(n), new.get(n))}
        if wrong or old.keys() - parts.keys():
            raise RuntimeError(f"found {found}, expected {self.old} or {self.new}")


def measure(kills: int, only: tuple[str, ...] = ()) -> dict[str, Counts]:
    """Return the counts of each command.

    Args:
        kills: Number of kills of all commands together.
        only: Names of commands to kill; all if empty.
    """
    torch.set_num_threads(1)
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # its file would be left over
    rows = {}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name).resolve()
        use(root)
        made = {t: c for t, c in commands(root).items() if not only or t in only}
        for start in dict.fromkeys(command.start for command in made.values()):
            if in_child(lambda: prepare(root, start), root / "log")[0]:  # noqa: B023
                raise RuntimeError((root / "log").read_text(errors="replace")[-500:])
        time.sleep(2)  # until then, images are so new that their digests are not remembered
        for title, command in made.items():
            started = time.monotonic()
            trial = Trial(root, command)
            for module in trial.modules:  # a process that is killed need not import them again
                with contextlib.suppress(ImportError):
                    importlib.import_module(module)
            wanted = max(1, round(command.share * kills / KILLS))
            for index in range(wanted):
                trial.kill(index * trial.counts.steps // wanted)
            trial.counts.seconds = round(time.monotonic() - started, 1)
            rows[title] = trial.counts
            found = {key: getattr(trial.counts, key) for key in SHOWN}
            click.echo(f"{title}: {found}", err=True)  # all of them take half an hour
    return rows


@click.command()
@click.option("--kills", type=click.IntRange(min=1), default=KILLS, show_default=True)
@click.option("--only", multiple=True, help="Command to kill; repeatable. Default: all.")
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(kills: int, only: tuple[str, ...], json_file: Path | None) -> None:
    """Kill commands at disk operations."""
    here = Path.cwd()
    rows = measure(kills, only)
    os.chdir(here)
    lines = [[name, *(str(getattr(row, key)) for key in SHOWN)] for name, row in rows.items()]
    click.echo(table(("", *(key.replace("_", " ") for key in SHOWN)), lines))
    for name, row in rows.items():
        for note in row.notes:
            click.echo(f"{name}: {note}", err=True)
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        found = {name: asdict(row) for name, row in rows.items()}
        write_json(json_file, {"commit": commit(), "machine": machine(), "commands": found})
    sys.exit(any(row.lost or row.left_over for row in rows.values()))


if __name__ == "__main__":
    main()
