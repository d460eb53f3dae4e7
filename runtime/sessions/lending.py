"""Lend the sessions of a pool to calls, each session to one call at a time."""

from __future__ import annotations

from collections.abc import Sequence
from types import FrameType

from runtime.errors import BackendError
from runtime.mutex import Bell, Hold, Mutex
from runtime.sessions.session import Session


class Loan(Hold):
    """The use of a session by a call, until the call ends or gives it back."""

    __slots__ = ("session",)

    def __init__(self, session: Session, frame: FrameType) -> None:
        super().__init__(frame)
        self.session = session


class Lending:
    """Lends sessions, least recently used first. Thread-safe."""

    def __init__(self, sessions: Sequence[Session]) -> None:
        self._order = tuple(sessions)
        """Least recently used first."""
        self._loans: dict[Session, Loan] = {}
        self._bell = Bell()
        """Rings when a session becomes free; then there is another one."""
        self._closed = False
        self._turn = Mutex()
        """Held by the call that chooses a session."""

    def lend(self, task: str | None, frame: FrameType) -> Loan:
        """Lend a session that no other call uses, preferably one whose current task is `task`.

        Args:
            task: Id of the task; None prefers none.
            frame: Frame of the call that uses the session.

        Raises:
            BackendError: The pool or all of its sessions are closed.
        """
        while True:
            bell = self._bell
            with self._turn:
                self.check_open()
                # One whose device failed is closed and gone; the others go on.
                there = [session for session in self._order if not session.closed]
                if not there:
                    raise BackendError("every session of the pool is closed; open a new pool")
                free = [s for s in there if s not in self._loans or self._loans[s].over]
                if free:
                    session = next((each for each in free if task and each.task == task), free[0])
                    loan = self._loans[session] = Loan(session, frame)
                    self._order = (*(s for s in self._order if s is not session), session)
                    return loan
            bell.doze()

    def take_back(self, loan: Loan) -> None:
        """End a loan, and wake threads that wait for a session."""
        loan.end()
        self._ring()

    def close(self) -> None:
        """Refuse further loans, and wake waiting threads. Safe to call more than once."""
        self._closed = True
        self._ring()

    def check_open(self) -> None:
        """Check that sessions are lent.

        Raises:
            BackendError: The pool is closed.
        """
        if self._closed:
            raise BackendError("the pool is closed; open a new one")

    def _ring(self) -> None:
        with self._turn:
            bell, self._bell = self._bell, Bell()
            bell.ring()
