"""One connection to the page, within bounds that no peer can stretch."""

from __future__ import annotations

import contextlib
import socket
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

CONNECTIONS = 128
"""Most connections at a time: the cameras need files too."""
FIRST, IDLE, _DEAD = 10, 30, 20
"""Seconds until a connection must have asked something, until one that asks nothing more is closed,
and until a peer is given up that takes nothing."""
_UNSENT = 16 << 10
"""Bytes that the kernel takes before they can leave: what waits there gets old."""


class Connection(H11Protocol):
    """A connection that ends if it asks nothing, and makes room for newer ones.

    Where there are too many, the oldest ends that does not show the stream, which only those have
    who may see it: a peer that opens many connections cannot keep others out.
    """

    def connection_made(self, transport: Any) -> None:
        """Begin, see `asyncio.Protocol`."""
        super().connection_made(transport)
        self._began = self.loop.time()
        self._make_room()
        transport.set_write_buffer_limits(0)  # the next picture is chosen when the last has left
        options = {"TCP_NOTSENT_LOWAT": _UNSENT, "TCP_USER_TIMEOUT": 1000 * _DEAD}
        opened = transport.get_extra_info("socket")
        for name, value in options.items():
            with contextlib.suppress(OSError, AttributeError):  # Linux has both
                opened.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self.loop.call_later(FIRST, self._end_if_silent)

    def data_received(self, data: bytes) -> None:
        """Take bytes, see `asyncio.Protocol`.

        Only a whole request stops the clock that runs since the last answer; uvicorn stops it at
        the first byte of one.
        """
        clock, self.timeout_keep_alive_task = self.timeout_keep_alive_task, None
        before = self.scope
        super().data_received(data)
        if clock is None:
            return
        if self.scope is before and self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = clock
        else:
            clock.cancel()

    @property
    def _streams(self) -> bool:
        """Whether it shows the stream: other requests to its path are answered at once."""
        asked = self.scope is not None and self.scope["path"] == "/stream"
        return asked and not self.cycle.response_complete

    def _make_room(self) -> None:
        """End the oldest connections that can make room for this one."""
        held = [each for each in self.connections if isinstance(each, Connection)]
        held = [each for each in held if not each.transport.is_closing()]
        if len(held) > CONNECTIONS:
            others = [each for each in held if not each._streams]
            min(others, key=lambda each: each._began).transport.abort()

    def _end_if_silent(self) -> None:
        if self.scope is None and not self.transport.is_closing():
            self.transport.abort()
