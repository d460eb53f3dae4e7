"""End things that may hang, all at once and for a bounded time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from runtime.errors import UdaError


def end_at_once(
    calls: Sequence[Callable[[], object]], seconds: float, on_error: Callable[[UdaError], object]
) -> bool:
    """Make calls on threads of their own; return whether all have returned in time.

    Args:
        calls: Functions to call.
        seconds: Time to wait for all of them; those that take longer are left behind.
        on_error: Called with the errors.
    """
    threads = [
        threading.Thread(target=partial(_call, call, on_error), name="uda-end", daemon=True)
        for call in calls
    ]
    end = time.monotonic() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)


def _call(call: Callable[[], object], on_error: Callable[[UdaError], object]) -> None:
    try:
        call()
    except UdaError as error:
        on_error(error)
