"""Choose the task for each frame: by turns or by a key, newly installed tasks included."""

from __future__ import annotations

from collections.abc import Sequence

import runtime


class Director:
    """Chooses the task of a frame by the frame's number, until somebody presses a key."""

    def __init__(self, session: runtime.Session, asked: Sequence[str], every: int) -> None:
        """Read the tasks: an unknown or damaged one shows now, not on its first frame.

        Args:
            session: Session with the tasks.
            asked: Those to go through; none is all that the bundle has, and later gets.
            every: Frames until the next one's turn; 0 stays with the first.

        Raises:
            runtime.UdaError: A task is unknown or damaged.
        """
        self._session, self._asked, self._every = session, tuple(asked), every
        self.tasks = self._asked or session.tasks
        """In the order of their turns."""
        for task in self.tasks:
            session.load(task)
        self._chosen = ""
        self._last = self.tasks[0]

    def task(self, number: int) -> str:
        """Return the task for a frame."""
        turn = number // self._every if self._every else 0
        chosen = self._chosen in self.tasks
        self._last = self._chosen if chosen else self.tasks[turn % len(self.tasks)]
        return self._last

    def press(self, key: str) -> None:
        """Take a key: `n` for the next task, a digit for one of them."""
        if key == "n":
            here = self.tasks.index(self._last) if self._last in self.tasks else -1
            self._chosen = self._last = self.tasks[(here + 1) % len(self.tasks)]
        elif key.isdecimal() and 0 < int(key) <= len(self.tasks):
            self._chosen = self._last = self.tasks[int(key) - 1]

    def refresh(self) -> tuple[str, ...]:
        """Take over tasks that changed on disk; return their ids.

        Raises:
            runtime.UdaError: The bundle or a changed task is damaged, the bundle has another base,
                or none of the tasks that were asked for is left. Everything is as it was.
        """
        old = self._session.bundle
        new = runtime.Bundle.open(old.path)
        tasks = tuple(task for task in self._asked or new.tasks if task in new.tasks)
        if not tasks:
            raise runtime.TaskError(
                f"none of the tasks {', '.join(self._asked)} is left in '{new.path}', which has "
                f"{', '.join(new.tasks)}; install one of them again, or name others with --task"
            )
        wanted = [task for task in runtime.changes(old, new) if task in tasks]
        for task in wanted:
            new.task(task, self._session.layout)
        changed = self._session.refresh(new)
        self._session.prefetch(*wanted)  # while the next frames are classified
        self.tasks = tasks
        return changed
