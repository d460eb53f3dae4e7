"""Start the process of a candidate, and send it requests."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime import interpreter

_TRIAL = "runtime.benchmark.compare.trial"
_KILL_SECONDS = 5.0
"""Longest wait for a process that was killed."""
_SHOWN = 400
"""Most bytes of the last line of a process that failed."""


class Failure(Exception):
    """A candidate failed, or could not start; the message is the reason."""

    def __init__(self, reason: str, *, of_backend: bool = False, of_frame: bool = False) -> None:
        """Store the reason.

        Args:
            reason: The reason, for people.
            of_backend: Whether its backend cannot be used here at all.
            of_frame: Whether the frame is to blame, and the candidate can continue.
        """
        super().__init__(reason)
        self.of_backend, self.of_frame = of_backend, of_frame


class TrialProcess:
    """A process with one candidate; it ends when it is closed, or with this program."""

    def __init__(self, alone: str) -> None:
        """Start it.

        Args:
            alone: Command that runs the candidate alone, for messages.

        Raises:
            Failure: The system starts no further process.
        """
        self._alone = alone
        try:
            self._said = tempfile.TemporaryFile()
            self._process = subprocess.Popen(
                interpreter.command(_TRIAL),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                start_new_session=True,  # Ctrl-C is for this program, which then ends it
            )
        except OSError as error:
            raise Failure(
                f"no process can be started for it: {error.strerror or error}; compare fewer at "
                "once, with --backend, --device or --strategy"
            ) from error

    def ask(self, action: str, frame: NDArray[np.uint8] | None = None, **more: Any) -> Any:
        """Return the reply to a request, see `runtime.benchmark.compare.trial`.

        Raises:
            Failure: The candidate reports an error, or its process ended.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        shape = None if frame is None else frame.shape
        request = json.dumps({"do": action, "shape": shape, **more}).encode() + b"\n"
        with contextlib.suppress(BrokenPipeError):  # it has ended, and the reply is missing too
            self._process.stdin.write(request)
            if frame is not None:
                self._process.stdin.write(np.ascontiguousarray(frame).data)
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise Failure(self._end())
        reply = json.loads(line)
        if "error" in reply:
            raise Failure(reply.pop("error"), **reply)
        return reply

    def close(self) -> None:
        """End the process, whatever it does. Safe to call more than once."""
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):  # what was not sent is not wanted
                    stream.close()
        with contextlib.suppress(subprocess.TimeoutExpired):  # it may hang in a driver
            self._process.wait(_KILL_SECONDS)
        self._said.close()

    def _end(self) -> str:
        """Return how the process ended."""
        status = self._process.wait()
        if status == -signal.SIGKILL:
            return (
                "its process was killed, as the system does where memory runs out; compare fewer "
                "tasks with --tasks N, or free some memory"
            )
        self._said.seek(0, os.SEEK_END)
        self._said.seek(max(self._said.tell() - _SHOWN, 0))
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        how = lines[-1] if lines else f"exit status {status}"
        if status < 0:
            how = signal.strsignal(-status) or f"signal {-status}"
        return f"its process crashed ({how}); to see more, run: {self._alone}"
