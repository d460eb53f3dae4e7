"""Read damaged files in forked workers, which end with what crashes, hangs or floods the memory.

A load fails if it raises anything but a `UdaError`, ends its process, or takes more time or memory
than a file of its size may. Readers share files, so no two workers use one reader at a time.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import resource
import select
import signal
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from runtime.errors import UdaError
from tests.fuzz.reading import Reader

SECONDS = 2.0
"""Processor time that a load may take."""
HANGS = 30.0
"""Seconds after which a load is ended."""
TIMES, SLACK = 3, 32 << 20
"""A load may take this many times the bytes of its file or of its base, and so much beside it."""
MOST = 6 << 30
"""Address space that a worker may take beside what it starts with."""
BLOCK = 100
"""Loads of a worker."""


@dataclass
class Tally:
    """Outcomes of the loads of one reader."""

    counts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    """Longest processor time of a load."""
    memory: int = 0
    """Most bytes that a load took."""
    failures: dict[str, str] = field(default_factory=dict)
    """Kept file of each failure by its reason."""


@dataclass
class _Worker:
    process: int
    output: int
    reader: int
    at: int
    """Number of the load that is next or under way."""
    end: int
    since: float
    rest: bytes = b""


def content_of(reader: Reader, seed: int, number: int) -> bytes:
    """Return the damaged file of a load; the same for equal arguments."""
    return reader.damaged(np.random.default_rng([seed, zlib.crc32(reader.name.encode()), number]))


def attempt(reader: Reader, content: bytes) -> dict[str, Any]:
    """Read a damaged file; return what was found, why it failed, and what it took."""
    before, start = _begin_memory(), time.process_time()
    found, why = "accepted", ""
    try:
        reader.read(content)
    except UdaError as error:
        found = "refused"
        if not str(error).isprintable():
            found, why = "failed", f"a message that is not one clean line: {str(error)!r:.200}"
    except BaseException:
        found, why = "failed", traceback.format_exc(limit=-4)
    seconds, memory = time.process_time() - start, _memory()[1] - before
    if seconds > SECONDS:
        found, why = "failed", f"took more than {SECONDS} s"
    if memory > TIMES * max(len(content), reader.base) + SLACK:
        found, why = "failed", f"took more than {TIMES} times the bytes of its file or base"
    return {"found": found, "why": why, "seconds": seconds, "memory": memory}


def fuzz(
    readers: Sequence[Reader],
    seed: int,
    kept: Path,
    *,
    loads: int = 0,
    until: float = float("inf"),
    workers: int = 2,
) -> dict[str, Tally]:
    """Damage and read files, equally many of each reader.

    Args:
        readers: Readers to fuzz.
        seed: Seed of the damage.
        kept: Folder for files that fail.
        loads: Number of loads of all readers together; 0 for no bound.
        until: Value of `time.monotonic` at which to stop.
        workers: Number of processes.
    """
    tallies = [Tally() for _ in readers]
    unit = loads / sum(reader.share for reader in readers) if loads else float(1 << 62)
    each = [math.ceil(unit * reader.share) for reader in readers]
    following, running = [0] * len(readers), list[_Worker]()
    while True:
        busy = {worker.reader for worker in running}
        free = [i for i, at in enumerate(following) if at < each[i] and i not in busy]
        free.sort(key=lambda i: following[i] / readers[i].share)
        for i in free[: workers - len(running)] if time.monotonic() < until else ():
            end = min(following[i] + math.ceil(BLOCK * readers[i].share), each[i])
            running.append(_start(readers[i], i, seed, following[i], end))
        if not running:
            return {reader.name: tally for reader, tally in zip(readers, tallies, strict=True)}
        select.select([worker.output for worker in running], [], [], 1.0)
        for worker in list(running):
            if ended := _collect(worker, tallies[worker.reader], readers, seed, kept):
                running.remove(worker)
                following[worker.reader] = ended


def _start(reader: Reader, position: int, seed: int, start: int, end: int) -> _Worker:
    output, own = os.pipe()
    process = os.fork()
    if process:
        os.close(own)
        os.set_blocking(output, False)
        return _Worker(process, output, position, start, end, time.monotonic())
    with contextlib.suppress(BaseException):  # nothing of the parent's may run here
        os.close(output)
        logging.disable()  # a damaged cache is a warning
        reader.read(reader.seeds[0])  # what it imports is not the files' fault
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + MOST, size + MOST))
        for number in range(start, end):
            result = attempt(reader, content_of(reader, seed, number))
            os.write(own, json.dumps(result).encode() + b"\n")
        os._exit(0)
    os._exit(1)


def _collect(
    worker: _Worker, tally: Tally, readers: Sequence[Reader], seed: int, kept: Path
) -> int | None:
    """Take a worker's results; return the number of the next load if the worker has ended."""
    reader, closed = readers[worker.reader], False
    while True:
        try:
            part = os.read(worker.output, 1 << 16)
        except BlockingIOError:
            break
        if not part:
            closed = True
            break
        *lines, worker.rest = (worker.rest + part).split(b"\n")
        for line in lines:
            result, worker.since = json.loads(line), time.monotonic()
            tally.seconds = max(tally.seconds, result["seconds"])
            tally.memory = max(tally.memory, result["memory"])
            _count(tally, reader, seed, worker.at, result["found"], result["why"], kept)
            worker.at += 1
    hangs = time.monotonic() - worker.since > HANGS
    if hangs:
        os.kill(worker.process, signal.SIGKILL)
    if not (closed or hangs):
        return None
    os.close(worker.output)
    _, status = os.waitpid(worker.process, 0)
    if worker.at == worker.end:
        return worker.end
    why = f"did not end within {HANGS} s" if hangs else f"ended its process, status {status}"
    _count(tally, reader, seed, worker.at, "failed", why, kept)
    return worker.at + 1


def _count(
    tally: Tally, reader: Reader, seed: int, number: int, found: str, why: str, kept: Path
) -> None:
    tally.counts[found] += 1
    if why and why not in tally.failures and len(tally.failures) < 20:
        kept.mkdir(parents=True, exist_ok=True)
        file = kept / f"{reader.name.replace(' ', '-')}-{seed}-{number}"
        file.write_bytes(content_of(reader, seed, number))
        tally.failures[why] = str(file)


def _memory() -> tuple[int, int]:
    """Return the memory that is taken now, and the most since the measurement began."""
    _, _, status = Path("/proc/self/status").read_text().partition("VmHWM:")
    most, _, rest = status.partition("VmRSS:")
    return int(rest.split()[0]) * 1024, int(most.split()[0]) * 1024


def _begin_memory() -> int:
    """Return the memory that is taken now; the most that is taken is about as much."""
    now, most = _memory()
    if most - now > SLACK // 32:  # takes milliseconds
        Path("/proc/self/clear_refs").write_text("5")
    return now
