"""Two processes with the environment that torchrun gives them, without the time it takes to start.

They are forks: importing torch and open_clip in two new processes takes longer than a short run.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from adapt.cli import main


def in_two(call: Callable[[], object], errors: Path) -> list[int]:
    """Make a call in two processes that can find each other.

    Args:
        call: Call to make in both.
        errors: File for what they write to stderr.

    Returns:
        The exit status of each; of one that was ended because the other failed, a negative one.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    children = []
    for number in ("0", "1"):
        children.append(os.fork())
        if not children[-1]:
            status = 1
            try:
                os.environ |= meeting | {"RANK": number, "LOCAL_RANK": number}
                os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
                call()
                status = 0
            except SystemExit as end:
                status = int(end.code or 0)
            except BaseException:
                os.write(2, traceback.format_exc().encode())
            finally:
                os._exit(status)
    ended: dict[int, int] = {}
    while len(ended) < len(children):
        child, status = os.wait()
        ended[child] = os.waitstatus_to_exitcode(status)
        for other in set(children) - ended.keys():
            if ended[child]:  # then torchrun ends the others
                os.kill(other, signal.SIGTERM)
    return [ended[child] for child in children]


def train_in_two(*words: object, errors: Path) -> tuple[set[int], str]:
    """Run `uda-adapt train` in two processes; return their exit statuses, and what they said."""

    def run() -> None:
        logging.getLogger().handlers.clear()  # pytest's
        with open(2, "w", closefd=False) as sys.stderr:
            main(["train", *map(str, words), "--no-baselines"])

    return set(in_two(run, errors)), errors.read_text()
