"""Open streams one after another, as OpenCV does, so that dead cameras hold up no living ones.

OpenCV's FFmpeg opens one stream at a time, and what does not answer takes all the time it may. Who
waits there would be taken for dead as well: so cameras wait here, where that is known, and those
that did not answer are asked beforehand whether they do now.
"""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from collections.abc import Iterator
from urllib.parse import SplitResult

from runtime.errors import DataError
from runtime.sources.live.base import Connection

OPENING = 15.0
"""Seconds that connecting may take."""
_LOOK = 0.2
"""Seconds between two looks whether to wait longer."""
_ANSWER = 256
PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
"""Usual ports by scheme."""
_turn = threading.Lock()


@contextlib.contextmanager
def turn(connection: Connection) -> Iterator[None]:
    """Wait until no other stream is being opened; none is opened while the block runs.

    Raises:
        DataError: The connection is to stop.
    """
    connection.began = math.inf
    while not _turn.acquire(timeout=_LOOK):
        if connection.stopping.is_set():
            raise DataError("stopped while other cameras were being connected")
    try:
        connection.began = time.monotonic()
        yield
    finally:
        _turn.release()


def ask(parts: SplitResult) -> None:
    """Wait until the server at an address says anything at all.

    Raises:
        OSError: It does not.
        UnicodeError: The name of its host is not one.
    """
    host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
    with socket.create_connection((host, port), OPENING / 2) as opened:
        if parts.scheme in ("rtsps", "https"):  # it waits for keys
            return
        bare = parts._replace(netloc=parts.netloc.rpartition("@")[2])
        if parts.scheme == "rtsp":
            text = f"OPTIONS {bare.geturl()} RTSP/1.0\r\nCSeq: 1\r\n\r\n"
        else:
            path = bare._replace(scheme="", netloc="", fragment="").geturl() or "/"
            text = f"GET {path} HTTP/1.1\r\nHost: {bare.netloc}\r\nConnection: close\r\n\r\n"
        opened.sendall(text.encode())
        if not opened.recv(_ANSWER):
            raise ConnectionResetError("it closes the connection without an answer")
