"""A mutex that is released when an exception interrupts its holder.

An exception from outside, such as Ctrl-C, what a signal handler raises or a lack of memory, can
come between any two bytecodes: after `with lock:` took the lock and before it is known, or before
it is given back. A `threading.Lock` then stays held for ever. Here a hold belongs to the call that
took it: when that call has ended, however it did, the hold has ended as well.
"""

from __future__ import annotations

import os
import sys
from _thread import allocate_lock, get_ident
from types import FrameType
from typing import Any

from runtime.errors import BackendError

_PATIENCE = 0.1
"""Seconds after which a waiting thread checks whether the holder was interrupted."""
_forks = 0
"""How often this process was forked from another one: threads do not survive a fork."""


def _forked() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def running(frame: FrameType) -> bool:
    """Return whether a call has not ended yet; not for generators.

    The variables of one that has ended are cleared, of which only a traceback would tell.
    """
    try:
        frame.clear()  # the one question that Python answers at once and for every thread
    except RuntimeError:
        return True
    return False


class Bell:
    """Wakes waiting threads once; later ones do not wait."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._lock.acquire()
        self._rang = False

    def ring(self) -> None:
        """Wake all waiting threads. Call once."""
        self._rang = True
        self._lock.release()

    def wait(self) -> None:
        """Wait until it rings."""
        while not self._rang:  # one of those it woke may be interrupted with the lock
            self.doze()

    def doze(self) -> None:
        """Wait until it rings, or for a moment."""
        if self._lock.acquire(timeout=_PATIENCE):
            self._lock.release()


class Hold:
    """A claim of one call on something; it ends with the call, or earlier by `end`."""

    __slots__ = ("_forks", "before", "frame", "links", "thread")

    def __init__(self, frame: FrameType | None) -> None:
        """Start with the call's frame; None has ended already."""
        self.frame = frame
        self.thread = get_ident()
        self.before: Hold | None = None
        """The hold that must be over before this one begins."""
        self._forks = _forks
        self.links: dict[str, Any] = {}
        """The hold that follows in a chain, and the bell of those who wait for the end. A dict,
        whose `setdefault` is atomic: two threads cannot both follow."""

    @property
    def over(self) -> bool:
        """Whether the call said so or has ended, perhaps while it was still waiting."""
        frame = self.frame
        if frame is None:
            return True
        if self._forks == _forks and running(frame):
            return False
        before = self.before
        return before is None or before.over

    def end(self) -> None:
        """End the hold, and wake threads that wait for it. Safe to call more than once."""
        self.frame = None
        bell = self.links.pop("bell", None)
        if bell is not None:
            bell.ring()

    def wait(self) -> None:
        """Wait until it is over, or for a moment."""
        bell = self.links.setdefault("bell", Bell())
        if self.frame is not None:  # else nobody may be left to ring it
            bell.doze()

    def within(self, other: Hold) -> bool:
        """Return whether a caller of the other hold's call has this one, or waits in its chain.

        Then waiting would never end.
        """
        hold: Hold | None = self
        while hold is not None and not hold.over:
            frame = hold.frame
            if hold.thread == other.thread and frame is not None and running(frame):
                return True
            hold = hold.before
        return False


class Mutex:
    """Lets one call at a time into `with mutex:`, which must not be used in a generator.

    Holds form a chain. One begins when all before it are over; that of a call which was interrupted
    is over when the call has ended. A new call may enter before threads that just woke up, which
    is faster, but not before those that woke up in vain.
    """

    def __init__(self, *, nested: bool = False) -> None:
        """Start free.

        Args:
            nested: Let calls in that a holder makes; otherwise these are refused.
        """
        self._last = self._holder = Hold(None)
        self._nested = nested

    def __enter__(self) -> None:
        """Wait for the turn.

        Raises:
            BackendError: The holder is a call that made this one, as when a signal came meanwhile
                and its handler calls something that the signal interrupted.
        """
        mine = Hold(sys._getframe(1))
        last = self._last
        if last.frame is not None and not last.over and self._wait(last, mine):
            return
        while True:
            mine.before = last
            following = last.links.setdefault("next", mine)  # the one that was there, if any
            if following is mine:
                break
            last = following
        self._last = mine
        while last.frame is not None and not last.over:
            last.wait()
        self._holder = mine
        mine.before = None

    def __exit__(self, *error: object) -> None:
        holder = self._holder
        if self._nested and holder.frame is not sys._getframe(1):
            return  # of a call that the holder made
        holder.frame = None  # as `end` does
        if "bell" in holder.links:
            holder.end()

    @property
    def free(self) -> bool:
        """Whether no call holds it."""
        return self._holder.over

    @property
    def mine(self) -> bool:
        """Whether a call that made this one holds it."""
        holder = self._holder
        return holder.thread == get_ident() and not holder.over

    def _wait(self, last: Hold, mine: Hold) -> bool:
        """Wait once before getting in line; return whether the call is in already."""
        if self._nested and self.mine:
            return True
        if last.within(mine):
            raise BackendError(
                "this was called from within a call that it interrupted, as a signal handler does; "
                "note the signal there, and call this afterwards"
            )
        last.wait()
        return False
