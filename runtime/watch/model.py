"""One session, or a pool of them, as a watcher uses it."""

from __future__ import annotations

from collections.abc import Sequence

from runtime.bundles.bundle import Bundle
from runtime.errors import TaskError, UdaError
from runtime.models import AUTO, Background
from runtime.sessions.pool import SessionPool
from runtime.sessions.session import Session


class Model:
    """What classifies frames, and the tasks that it has. Safe to use from threads."""

    def __init__(self, model: Session | SessionPool) -> None:
        """Take an open session or pool, which stays the caller's."""
        self.predicts = model
        """What classifies."""
        self.sessions = model.sessions if isinstance(model, SessionPool) else (model,)
        self._first = self.sessions[0]
        self.can_route = False
        """Whether tasks can be chosen for frames, as of the last `look_again`."""
        self.look_again()

    @property
    def tasks(self) -> tuple[str, ...]:
        """The ids of the tasks."""
        return self.predicts.tasks

    def look_again(self) -> None:
        """Find out anew whether tasks can be chosen, as after a refresh; it may read every task."""
        try:
            self._first.choose([])
            self.can_route = True
        except UdaError:
            self.can_route = False

    def checked(self, task: str | None) -> str:
        """Return the id of a task that is in memory now, or `auto`.

        Args:
            task: Id of a task, or `auto`; None for the only one.

        Raises:
            TaskError: The bundle has no such task, or several, or cannot route frames.
            FormatError: The task's file is damaged.
        """
        if task is None and len(self.tasks) == 1:
            task = self.tasks[0]
        if task is None:
            raise TaskError(
                f"no task is selected; available: {', '.join(self.tasks)}; name one, for example "
                f"--task {self.tasks[0]}, or --task auto"
            )
        if task == AUTO:
            self._first.choose([])  # says why it cannot
        else:
            self._first.load(task)
        return task

    def background(self, task: str) -> Background:
        """Return the colour behind transparent pixels, for a task or `auto`; switches to it.

        Raises:
            UdaError: As `Session.switch`.
        """
        # The colour of one task is as good as another's where the task may change.
        self._first.switch(self.tasks[0] if task == AUTO else task)
        return self._first.preprocess.background

    def check(self) -> None:
        """Check that frames can be classified at all: a device that failed may be one of several.

        Raises:
            UdaError: They cannot.
        """
        for session in [each for each in self.sessions if not each.closed] or [self._first]:
            session.check_open()

    def bundle(self) -> Bundle:
        """Return the bundle as it is known."""
        return self._first.bundle

    def refresh(self, new: Bundle, added: Sequence[str]) -> tuple[str, ...]:
        """Take over a changed bundle, check tasks beforehand and load them afterwards.

        Args:
            new: Bundle as it is on disk.
            added: Ids of the tasks that are new, or have a new version.

        Returns:
            Ids of the tasks that have changed.

        Raises:
            UdaError: As `Session.refresh`, or one of the tasks is damaged.
        """
        for task in added:
            new.task(task, self._first.layout)
        model = self.predicts
        changed = model.refresh() if isinstance(model, SessionPool) else model.refresh(new)
        self._first.prefetch(*[task for task in added if task in self._first.tasks])
        return changed
