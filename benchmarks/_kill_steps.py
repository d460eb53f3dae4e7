"""Count the disk operations of a process, and kill it at one of them."""

from __future__ import annotations

import io
import os
import pathlib
import signal
import sys
from pathlib import Path
from typing import Any

_AUDITED = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate"}


class Steps:
    """Disk operations of this process; for a forked child, since watching cannot be undone."""

    def __init__(self, kill_at: int, below: Path | None = None) -> None:
        """Choose the step to be killed at.

        Args:
            kill_at: Number of steps before the process is killed; -1 for never.
            below: Folder to watch; None for the whole disk.
        """
        self.kill_at, self.log = kill_at, list[tuple[str, str]]()
        self._below = "" if below is None else f"{below}{os.sep}"

    def step(self, what: str, path: object) -> None:
        place = os.path.abspath(os.fsdecode(path)) if isinstance(path, (bytes, str)) else str(path)
        if not place.startswith(self._below):
            return
        if len(self.log) == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.log.append((what, place))

    def watch(self) -> None:
        """Watch this process from now on."""
        steps, write, fsync, opened = self, os.write, os.fsync, io.open

        class InTwoParts(io.FileIO):
            def write(self, content: Any) -> int:
                view = memoryview(content)
                for part in (view[: len(view) // 2], view[len(view) // 2 :]):
                    steps.step("write", self.name)
                    super().write(part)
                return len(view)

        def slow_open(file: Any, mode: str = "r", *args: Any, **more: Any) -> Any:
            return InTwoParts(file, mode) if mode == "wb" else opened(file, mode, *args, **more)

        def slow_write(handle: int, content: bytes) -> int:
            self.step("write", _path(handle))
            return write(handle, content)

        def slow_fsync(handle: int) -> None:
            self.step("fsync", _path(handle))
            fsync(handle)

        def audit(event: str, args: tuple[Any, ...]) -> None:
            if event == "open" and isinstance(args[2], int):
                if args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                    self.step("open", args[0])
            elif event in _AUDITED:
                self.step(event, args[1] if event == "os.rename" else args[0])

        os.write, os.fsync, io.open = slow_write, slow_fsync, slow_open
        if accessor := getattr(pathlib, "_NormalAccessor", None):  # Python 3.10 has its own io.open
            accessor.open = staticmethod(slow_open)
        sys.addaudithook(audit)


def _path(handle: int) -> str:
    return os.readlink(f"/proc/self/fd/{handle}")
