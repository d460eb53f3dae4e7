"""Call functions in a forked process, as a user who is not root or with few files to open."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable

import pytest

STRANGER = 12345
"""A user without a passwd entry."""
needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user"
)


def as_stranger(call: Callable[[], object]) -> str:
    """Return the error that a call ends with as another user, `Type: message`; empty for none."""
    return in_child(become_stranger, call)


def become_stranger() -> None:
    """Give up root for another user's identity, until the process ends."""
    os.setgroups([])
    os.setresgid(STRANGER, STRANGER, STRANGER)
    os.setresuid(STRANGER, STRANGER, STRANGER)


def with_files(count: int, call: Callable[[], object]) -> str:
    """Return the error of a call that may open a number of files, as `as_stranger` does."""

    def limit() -> None:
        first = os.dup(0)  # the lowest number that is free
        os.close(first)
        resource.setrlimit(resource.RLIMIT_NOFILE, (first + count, first + count))

    return in_child(limit, call)


def in_child(before: Callable[[], object], call: Callable[[], object]) -> str:
    """Return the error that a call ends with in a forked process."""
    reading, writing = os.pipe()
    if not (child := os.fork()):
        try:
            before()
            call()
        except BaseException as error:
            os.write(writing, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        said = stream.read()
    os.waitpid(child, 0)
    return said
