"""Log and report errors from rank 0 only; nothing here needs torch."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator

import click

from runtime.errors import UdaError

PATIENCE = 20.0
"""Seconds that other ranks wait before they report an error."""


def is_rank_zero() -> bool:
    """Return whether this process has rank 0, also after the run has ended."""
    return os.environ.get("RANK", "0") == "0"


def is_only_process() -> bool:
    """Return whether this process is the only one of its run."""
    return os.environ.get("WORLD_SIZE", "1") == "1"


@contextlib.contextmanager
def rank_zero_only() -> Iterator[None]:
    """Report from rank 0 only what every process of torchrun finds.

    Other ranks log nothing. Their errors come late: torchrun ends all processes as soon as one
    has failed, so they report only an error that rank 0 does not have.
    """
    if is_rank_zero():
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
