"""Trainings in processes of their own, without the time that an interpreter takes to start.

They are forks: importing torch and open_clip in a new process takes longer than a short run.
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


def start(call: Callable[[], object], errors: Path) -> int:
    """Make a call in a fork.

    Args:
        call: Call to make.
        errors: File for what it writes to stderr.

    Returns:
        The process; its exit status is 1 if the call raises something.
    """
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        call()
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(status)


def command(*words: object) -> None:
    """Run `uda-adapt` in a fork."""
    logging.getLogger().handlers.clear()  # pytest's
    with open(2, "w", buffering=1, closefd=False) as sys.stderr:
        main(list(map(str, words)))


def in_two(call: Callable[[], object], errors: Path) -> list[int]:
    """Make a call in two processes that can find each other, as torchrun lets them.

    Args:
        call: Call to make in both.
        errors: File for what they write to stderr.

    Returns:
        The exit status of each; of one that was ended because the other failed, a negative one.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    meeting = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}

    def run(number: str) -> None:
        os.environ |= meeting | {"RANK": number, "LOCAL_RANK": number}
        call()

    children = [start(lambda: run("0"), errors), start(lambda: run("1"), errors)]
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
    ended = in_two(lambda: command("train", *words, "--no-baselines"), errors)
    return set(ended), errors.read_text()
