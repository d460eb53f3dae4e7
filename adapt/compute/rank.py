"""Which of several processes speaks; nothing here needs torch."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator

import click

from runtime.errors import UdaError

PATIENCE = 20.0
"""Seconds that a follower keeps an error to itself."""


def leads() -> bool:
    """Return whether this process speaks for the run, also after it has ended."""
    return os.environ.get("RANK", "0") == "0"


def alone() -> bool:
    """Return whether this process is the only one of its run."""
    return os.environ.get("WORLD_SIZE", "1") == "1"


@contextlib.contextmanager
def one_voice() -> Iterator[None]:
    """Let the leading one of torchrun's processes tell alone what all of them find.

    The others' warnings are silent. Their errors come late: torchrun ends everybody as soon as one
    has failed, so only an error that the leader does not have is ever told by another.
    """
    if leads():
        yield
        return
    logger, silence = logging.getLogger("adapt"), logging.NullHandler()
    logger.addHandler(silence)  # otherwise Python itself prints warnings that nobody handles
    try:
        yield
    except (UdaError, click.UsageError):
        time.sleep(PATIENCE)
        raise
    finally:
        logger.removeHandler(silence)
