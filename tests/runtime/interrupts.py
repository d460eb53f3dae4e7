"""Exceptions from outside, at every bytecode of our code that a call runs."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import runtime
from runtime.errors import UdaError

ROOT = str(Path(runtime.__file__).parent)
READERS = ("bundles", "storage", "frames", "patch.py", "models.py")
STATELESS = tuple(f"{ROOT}/{name}" for name in READERS)
"""Code that only reads: one bytecode of many is enough."""
ALL = bool(os.environ.get("ACCEPTANCE"))
"""Whether to spare no time, as `make acceptance` does."""


class Stop(Exception):
    """What a signal handler might raise."""


class Tracer:
    """Counts the bytecodes of our code in a call, and raises before one of them."""

    def __init__(self, at: int = -1) -> None:
        self.at, self.seen = at, []
        self.raised = False

    def __call__(self, call: Callable[[], object]) -> None:
        before = sys.gettrace()
        # Python 3.12 has opcode events only if a frame asked for them before `settrace`.
        sys._getframe().f_trace_opcodes = True
        sys.settrace(self._enter)
        try:
            call()
        except Stop:
            assert self.raised
        finally:
            sys.settrace(before)

    def _enter(self, frame, event, argument):
        if not frame.f_code.co_filename.startswith(ROOT):
            return None
        frame.f_trace = self._opcode  # Python 3.13 takes the next line only from a traced frame
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self._opcode

    def _opcode(self, frame, event, argument):
        if event == "opcode":
            if len(self.seen) == self.at:
                sys.settrace(None)
                self.raised = True
                raise Stop
            self.seen.append((frame.f_code, frame.f_lasti))
        return self._opcode


def positions(call: Callable[[], object], sample: int, step: int) -> list[int]:
    """Return when, in a call, each bytecode of our code comes, with `ALL` also the last time.

    Args:
        call: Does the same whenever it is called.
        sample: One bytecode in so many is taken of code that only reads.
        step: And one in so many of other code.
    """
    tracer = Tracer()
    tracer(call)
    found: dict[object, list[int]] = {}
    for number, where in enumerate(tracer.seen):
        found.setdefault(where, [number, number])[1] = number
    chosen: dict[bool, list[int]] = {True: [], False: []}
    for (code, _), ends in found.items():
        chosen[code.co_filename.startswith(STATELESS)] += ends if ALL else ends[:1]
    if ALL:
        sample = step = 1
    return sorted({*chosen[False][::step], *chosen[True][::sample]})


def interrupted(
    prepare: Callable[[], object], call: Callable[[], object], sample: int = 60, step: int = 1
) -> Iterator[int]:
    """Call again and again, and raise at another bytecode each time; yield after each.

    Args:
        prepare: Brings about what `call` finds.
        call: What is interrupted.
        sample: As for `positions`.
        step: As for `positions`.
    """
    prepare()
    call()
    prepare()
    wanted, raised = positions(call, sample, step), 0
    for position in wanted:
        prepare()
        tracer = Tracer(position)
        tracer(call)
        raised += tracer.raised
        yield position
    assert raised > 0.9 * len(wanted) > 0, (raised, len(wanted))


def elsewhere(call: Callable[[], object], seconds: float = 1.0) -> object:
    """Return what a call on another thread returns or raises, which must do so in time."""
    found: list[object] = []

    def run() -> None:
        try:
            found.append(call())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert found, f"no answer within {seconds} s"
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]


class Checker:
    """Compares what a session says with what single-threaded ones said."""

    def __init__(self, path, frame, **kwargs) -> None:
        self.frame = frame
        self.every, self._calls = 4, 0
        with runtime.Session.open(path, threads=1, **kwargs) as session:
            self.want = {task: session.predict(frame, task).logits for task in session.tasks}

    def same(self, result) -> bool:
        return bool(np.array_equal(result.logits, self.want[result.task]))

    def __call__(self, session, *tasks: str) -> None:
        """Check the current task, as it is, then others; from this thread and from another."""
        named = session.task
        try:
            result = elsewhere(lambda: session.predict(self.frame))
        except UdaError as error:
            assert named is None and "no task is selected" in str(error)
        else:
            assert result.task == named and self.same(result), named
        for task in tasks:
            result = session.predict(self.frame, task)
            assert result.task == task == session.task and self.same(result), task
        self._calls += 1
        if self._calls % self.every == 0 or ALL:
            self.base(session)

    def base(self, session) -> None:
        """Check the base, which costs a few threads."""
        assert session.base_sha256() == session.bundle.manifest.tensors.sha256
