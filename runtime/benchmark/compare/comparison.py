"""Compare candidates: speed in interleaved rounds, then the answers to the same frames.

Each candidate lives in a process of its own: its memory is counted apart, and if it crashes, the
others stay. All are there from the start, and take turns of some milliseconds in an order that is
drawn anew for each round, so that what else the machine does meets all alike.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.benchmark.compare.agreement import Agreement
from runtime.benchmark.compare.candidates import Candidate, labels
from runtime.benchmark.compare.measured import ComparePlan, Measured
from runtime.benchmark.compare.process import Failure, TrialProcess
from runtime.benchmark.compare.questions import Question
from runtime.closing import Closing
from runtime.console import ProgressCallback
from runtime.errors import DataError
from runtime.text import shell_command


class Comparison(Closing):
    """Candidates that are measured together, each in a process of its own.

    What was measured stays in `measured`, also if a step is interrupted.
    """

    def __init__(
        self,
        plan: ComparePlan,
        candidates: Sequence[Candidate],
        frame: NDArray[np.uint8],
        on_progress: ProgressCallback,
    ) -> None:
        """Start nothing yet.

        Args:
            plan: What to measure.
            candidates: Candidates, in the order of the table.
            frame: Frame (H, W, 3), uint8, to measure speed with.
            on_progress: Progress callback.
        """
        self.plan, self._frame, self._on_progress = plan, frame, on_progress
        self.measured = [Measured(candidate) for candidate in candidates]
        self.reference: Measured | None = None
        """The candidate whose answers the others are compared with; None until they answer."""
        self.unusable_frames: dict[str, str] = {}
        """Reasons by the name of the frame."""
        self._processes: dict[Candidate, TrialProcess] = {}

    @property
    def running(self) -> list[Measured]:
        """The candidates that have not failed."""
        return [each for each in self.measured if each.candidate in self._processes]

    def start(self) -> None:
        """Open every candidate, one after the other.

        Raises:
            DataError: The frame cannot be used.
        """
        names = labels([each.candidate for each in self.measured])
        unusable: dict[tuple[str, str], str] = {}
        for number, each in enumerate(self.measured):
            own = each.candidate
            self._on_progress(f"opening {names[own]}", number, len(self.measured))
            each.failure = unusable.get((own.backend, own.device), "")
            if each.failure:
                continue
            try:
                each.opened = self._open(own)
            except Failure as failure:
                if failure.of_frame:
                    raise DataError(str(failure)) from failure
                self._give_up(each, failure)
                if failure.of_backend:
                    unusable[own.backend, own.device] = str(failure)
            else:
                self._note_memory(each, each.opened)

    def measure(self) -> None:
        """Measure speed in rounds, in which each candidate has a turn."""
        draw = random.Random(self.plan.seed)
        for number in range(self.plan.rounds):
            order = self.running
            draw.shuffle(order)
            for position, each in enumerate(order):
                done = number + position / len(order)
                self._on_progress("measuring", int(100 * done), 100 * self.plan.rounds)
                calls = self.plan.calls(number)
                batches = -(-calls // self.plan.batch) if self.plan.batch > 1 else 0
                try:
                    reply = self._processes[each.candidate].ask(
                        "turn", calls=calls, batches=batches
                    )
                except Failure as failure:
                    self._give_up(each, failure)
                else:
                    self._note_memory(each, reply)
                    each.turns[number] = reply

    def answer(self, questions: Iterable[Question], count: int) -> None:
        """Let every candidate answer the same questions, first the one that is the reference.

        That is the default way to run a bundle in fp32, or else the first that runs.

        Args:
            questions: Questions, each asked as soon as it comes.
            count: Number of questions as far as it is known, for the progress.

        Raises:
            StorageError: An image cannot be read since too many files are open.
        """
        # The sort is stable: the first of equals.
        order = sorted(
            self.running,
            key=lambda each: (each.candidate.precision != "fp32", not each.candidate.default),
        )
        self.reference = order[0] if order else None
        for number, question in enumerate(questions):
            self._on_progress("comparing answers", min(number, count), count)
            expected: NDArray[np.float64] | None = None
            for each in sorted(self.running, key=lambda each: each is not self.reference):
                try:
                    reply = self._processes[each.candidate].ask(
                        "answer", question.frame, task=question.task
                    )
                except Failure as failure:
                    if failure.of_frame:
                        self.unusable_frames[question.name] = str(failure)
                        break
                    self._give_up(each, failure)
                    continue
                logits = np.asarray(reply["logits"])
                if each is self.reference:
                    expected = logits
                counts = each.answers.setdefault(question.task, Agreement())
                counts.add(logits, expected, question.label)

    def close(self) -> None:
        """End all processes, also if this is interrupted. Safe to call more than once."""
        with ExitStack() as stack:
            for process in self._processes.values():
                stack.callback(process.close)
            self._processes.clear()

    def _open(self, own: Candidate) -> Any:
        alone = shell_command(["uda-runtime", "bench", own.bundle, *own.options.split()])
        process = self._processes[own] = TrialProcess(alone)
        plan = self.plan
        setup = {
            "path": str(own.bundle),
            "backend": own.backend,
            "device": own.device,
            "strategy": own.strategy,
            "threads": plan.threads,
            "engines": plan.engines,
            "verify": plan.verify,
        }
        return process.ask(
            "open",
            self._frame,
            session=setup,
            tasks=plan.tasks,
            batch=plan.batch,
            warmup=plan.warmup,
        )

    def _give_up(self, each: Measured, failure: Failure) -> None:
        each.failure = str(failure)
        process = self._processes.pop(each.candidate, None)
        if process is not None:  # None if it did not even start
            process.close()

    @staticmethod
    def _note_memory(each: Measured, reply: dict[str, Any]) -> None:
        each.memory = {name: reply.pop(name) for name in ("peak_rss_bytes", "device_bytes")}
