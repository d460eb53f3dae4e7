"""Start a program whose modules take a while to import; imports none of them."""

from __future__ import annotations

import os
import signal
from importlib import import_module
from types import FrameType

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells know it."""


def run(module: str) -> None:
    """Import a module and call its `main`; Ctrl-C meanwhile ends the program with one line.

    Args:
        module: Name of the module.
    """
    # It is ignored in the background of a shell, and stays so.
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        import_module(module).main()
        return
    signal.signal(signal.SIGINT, _end)
    main = import_module(module).main
    signal.signal(signal.SIGINT, signal.default_int_handler)
    main()


def _end(number: int, frame: FrameType | None) -> None:
    """End at once: an exception could be swallowed by whatever is being imported."""
    os.write(2, b"error: interrupted\n")
    os._exit(INTERRUPTED)
