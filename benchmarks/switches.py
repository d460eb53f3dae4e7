"""Interrupt a million switches at random moments; no answer may be wrong, no lock stay held.

    python -m benchmarks.switches [--bundle demo/demo.bundle] [--switches 1000000] [--json FILE]

`make acceptance PART=switches` runs this. A timer's signal handler raises at random moments, as a
watchdog's or a notebook's does, while a session over a trained bundle switches at random: half of
the switches under each strategy, and predictions of a pool besides. After each interrupt, and now
and then in between, the session's answer is compared, bit for bit, with that of a session that was
never interrupted; another thread must get an answer within a second. Then every bytecode of a
switch, a prediction, a refresh and a close is interrupted once, on the CPU and over the tests'
emulated GPU. Exits with 1 if an answer is wrong, or a call raises an unexpected error. Longer than
most files, since all kinds of calls share one timer and its counts.
"""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from runtime.benchmark.latency import machine
from runtime.console import table, write_json
from runtime.sessions.pool import SessionPool
from runtime.sessions.session import Session

STRATEGIES = ("patch", "engines")
LONGEST = 3e-4
"""Seconds between two interrupts, at most."""
AGAIN = 0.01
"""Seconds until an interrupt that was lost comes once more."""
_ROOT = Path(__file__).parent.parent

Frames = list[NDArray[np.uint8]]
Answers = dict[str, list[NDArray[np.float32]]]


class Alarm(Exception):
    """The exception that the signal's handler raises."""


@dataclasses.dataclass
class Counts:
    """Counts of calls, interrupts and faults."""

    switches: int = 0
    interrupts: int = 0
    answers: int = 0
    wrong: int = 0
    mislabelled: int = 0
    key_errors: int = 0
    other_errors: int = 0
    late: int = 0
    base_damaged: int = 0
    last_error: str = ""

    @property
    def faults(self) -> int:
        """Sum of the counts that must be 0."""
        errors = self.key_errors + self.other_errors
        return self.wrong + self.mislabelled + errors + self.late + self.base_damaged


class Storm:
    """Calls with interrupts at random moments. For the main thread, which hears signals."""

    def __init__(self, frames: Frames, want: Answers, seed: int = 0) -> None:
        """Take the frames to predict, and the expected answers."""
        self.counts = Counts()
        self._frames, self._want = frames, want
        self._draw = random.Random(seed)
        self._armed = False

    def __enter__(self) -> Storm:
        self._former = signal.signal(signal.SIGALRM, self._ring)
        return self

    def __exit__(self, *error: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._former)

    def interrupted(self, call: Callable[[], object]) -> None:
        """Call again and again until an interrupt comes."""
        try:
            try:
                self._armed = True
                # Again and again: Python drops what is raised while a library's callback of the
                # garbage collector or a destructor runs.
                signal.setitimer(signal.ITIMER_REAL, self._draw.uniform(1e-6, LONGEST), AGAIN)
                while True:
                    call()
                    self._armed = True  # it came and was dropped if it is not
            finally:
                self._armed = False
                signal.setitimer(signal.ITIMER_REAL, 0)
        except Alarm:
            self.counts.interrupts += 1
        except Exception as error:
            self._note(error)

    def switches(self, session: Session, count: int) -> None:
        """Switch at random until there were so many, and an interrupt for every 50th."""
        tasks, counts = session.tasks, self.counts

        def switch() -> None:
            session.switch(self._draw.choice(tasks))
            counts.switches += 1

        while counts.switches < count or counts.interrupts < count // 50:
            self.interrupted(switch)
            self._armed = False
            if session.task is not None:
                self.check(session.task, lambda frame: session.predict(frame))
            if counts.interrupts % 20 == 0:
                task = self._draw.choice(tasks)
                self.elsewhere(task, lambda frame: session.predict(frame, task))  # noqa: B023
                good = session.base_sha256() == session.bundle.manifest.tensors.sha256
                counts.base_damaged += not good

    def predictions(self, pool: SessionPool, count: int) -> None:
        """Predict with a pool until there were so many interrupts, and check after each."""
        while self.counts.interrupts < count:
            task = self._draw.choice(pool.tasks)
            frame = self._frames[0]
            self.interrupted(lambda: pool.predict(frame, task))  # noqa: B023
            self._armed = False
            task = self._draw.choice(pool.tasks)
            self.check(task, lambda frame: pool.predict(frame, task))  # noqa: B023
            if self.counts.interrupts % 50 == 0:
                self.elsewhere(task, lambda frame: pool.predict(frame, task))  # noqa: B023

    def check(self, task: str, predict: Callable[[NDArray[np.uint8]], Any]) -> None:
        """Compare an answer with the expected one."""
        index = self._draw.randrange(len(self._frames))
        try:
            result = predict(self._frames[index])
        except Exception as error:
            self._note(error)
            return
        self.counts.answers += 1
        self.counts.mislabelled += result.task != task
        self.counts.wrong += not np.array_equal(result.logits, self._want[result.task][index])

    def elsewhere(self, task: str, predict: Callable[[NDArray[np.uint8]], Any]) -> None:
        """Do as `check`, on another thread, which must have an answer within a second."""
        thread = threading.Thread(target=self.check, args=(task, predict), daemon=True)
        thread.start()
        thread.join(1)
        self.counts.late += thread.is_alive()
        thread.join()

    def _ring(self, *_: object) -> None:
        if self._armed:
            self._armed = False
            raise Alarm

    def _note(self, error: Exception) -> None:
        self.counts.key_errors += isinstance(error, KeyError)
        self.counts.other_errors += not isinstance(error, KeyError)
        self.counts.last_error = f"{type(error).__name__}: {error}"


def answers(bundle: Path, frames: Frames, strategy: str) -> Answers:
    """Return the answers of a session that is never interrupted."""
    with Session.open(bundle, threads=1, strategy=strategy) as session:
        return {t: [session.predict(f, t).logits for f in frames] for t in session.tasks}


def measure(bundle: Path, switches: int, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Return the counts of each strategy and of a pool under interrupts."""
    draw = np.random.default_rng(seed)
    frames = [draw.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((32, 32), (97, 61))]
    rows: dict[str, dict[str, Any]] = {}
    for strategy in (*STRATEGIES, "pool"):
        held = "patch" if strategy == "pool" else strategy
        start = time.monotonic()
        with Storm(frames, answers(bundle, frames, held), seed) as storm:
            if strategy == "pool":
                with SessionPool.open(bundle, sessions=2, threads=1) as pool:
                    storm.predictions(pool, max(1, switches // 200))
            else:
                with Session.open(bundle, threads=1, strategy=held) as session:
                    for task in session.tasks:
                        session.load(task)
                    storm.switches(session, switches // len(STRATEGIES))
        rows[strategy] = {
            **dataclasses.asdict(storm.counts),
            "faults": storm.counts.faults,
            "seconds": round(time.monotonic() - start, 1),
        }
    return rows


def every_bytecode() -> dict[str, Any]:
    """Interrupt every bytecode of a call once, and return how that ended."""
    files = [f"tests/runtime/test_{name}.py" for name in ("interrupted", "mutex", "cuda_emulated")]
    return run_tests("-k", "interrupted or mutex", *files)


def run_tests(*words: str) -> dict[str, Any]:
    """Run tests at full length; return whether they passed, pytest's last line and the seconds."""
    start = time.monotonic()
    found = subprocess.run(
        [sys.executable, "-m", "pytest", *words],
        env={**os.environ, "ACCEPTANCE": "1"},
        cwd=_ROOT,
        capture_output=True,
        text=True,
    )
    if found.returncode:
        click.echo(found.stdout + found.stderr, err=True)
    return {
        "passed": not found.returncode,
        "result": found.stdout.strip().rpartition("\n")[2],
        "seconds": round(time.monotonic() - start, 1),
    }


def commit() -> str:
    """Return the commit that is checked out, with a mark if files were changed since.

    The results of other parts, which lie in the repository too, change no figure.
    """

    def git(*words: str) -> str:
        found = subprocess.run(["git", *words], cwd=_ROOT, capture_output=True, text=True)
        return found.stdout.strip()

    checked_out = git("rev-parse", "HEAD")
    changed = git("status", "--porcelain", "--", ".", ":!benchmarks/results")
    return (checked_out or "unknown") + ("-dirty" if changed else "")


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path), default=Path("demo/demo.bundle"))
@click.option("--switches", type=click.IntRange(min=100), default=1_000_000, show_default=True)
@click.option("--bytecodes/--no-bytecodes", default=True, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(bundle: Path, switches: int, bytecodes: bool, json_file: Path | None) -> None:
    """Interrupt switches at random moments, and at every bytecode."""
    if not bundle.exists():
        raise click.ClickException(f"'{bundle}' does not exist; run make demo, or pass --bundle")
    rows = measure(bundle, switches)
    keys = ("switches", "interrupts", "answers", "wrong", "mislabelled", "key_errors", "late")
    header = ("", *(key.replace("_", " ") for key in keys), "other errors", "base", "seconds")
    lines = [
        [
            name,
            *(f"{row[key]:,}" for key in keys),
            f"{row['other_errors']:,} {row['last_error']}".strip(),
            "bit for bit" if not row["base_damaged"] else "DAMAGED",
            f"{row['seconds']:.0f}",
        ]
        for name, row in rows.items()
    ]
    click.echo(table(header, lines))
    found: dict[str, Any] = {"commit": commit(), "machine": machine(), "interrupts": rows}
    failed = any(row["faults"] for row in rows.values())
    if bytecodes:
        found["every_bytecode"] = every_bytecode()
        failed |= not found["every_bytecode"]["passed"]
        click.echo(f"every bytecode: {found['every_bytecode']}")
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        write_json(json_file, found)
    sys.exit(failed)


if __name__ == "__main__":
    main()
