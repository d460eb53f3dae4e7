"""Call functions as a user who is not root, in a forked process."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

STRANGER = 12345
"""A user without a passwd entry."""
needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user"
)


def as_stranger(call: Callable[[], object]) -> str:
    """Return the error that a call ends with as another user, `Type: message`; empty for none."""
    reading, writing = os.pipe()
    if not (child := os.fork()):
        try:
            os.setgroups([])
            os.setresgid(STRANGER, STRANGER, STRANGER)
            os.setresuid(STRANGER, STRANGER, STRANGER)
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
