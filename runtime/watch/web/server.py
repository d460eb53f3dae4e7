"""Serve an application in a thread of its own, within bounds."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

from runtime.errors import ConfigError, UdaError
from runtime.watch.web.connection import IDLE, Connection

_HEADERS = 16 << 10
"""Most bytes of a request's headers."""
_LAST = 0.15
"""Seconds that answers have to end, once the server ends."""


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Args:
        host: Address or name of this machine.
        port: Port; 0 takes a free one.

    Raises:
        ConfigError: It cannot listen there, as where another program does.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        opened = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"cannot listen at '{host}': {_reason(error)}; check --host") from error
    try:
        if os.name == "posix":  # elsewhere it would share the port with another program
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen(64)
        opened.setblocking(False)
    except OSError as error:
        opened.close()
        taken = error.errno == errno.EADDRINUSE
        hint = "another program uses it; choose another --web PORT" if taken else _reason(error)
        raise ConfigError(f"cannot listen at {host}, port {port}: {hint}") from error
    return opened


def _reason(error: OSError | UnicodeError) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


class Server:
    """A server in a thread, from its start to `close`. It leaves signal handlers alone."""

    def __init__(self, app: ASGIApp, opened: socket.socket, on_close: Callable[[], None]) -> None:
        """Start to serve.

        Args:
            app: Application.
            opened: Socket that listens; it is closed in the end.
            on_close: Called by the server's thread when it is to end, so that streams end.

        Raises:
            UdaError: It does not start.
        """
        config = uvicorn.Config(
            app, http=Connection, ws="none", lifespan="off", loop="asyncio",
            log_config=None, log_level="error", access_log=False, proxy_headers=False,
            server_header=False, timeout_keep_alive=IDLE, h11_max_incomplete_event_size=_HEADERS,
        )  # fmt: skip
        self._server = _Ending(config, on_close)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(opened,), name="web", daemon=True)
        self._thread.start()
        self._ready.wait()
        if not self._thread.is_alive():
            raise UdaError("the server of the page did not start; report this as a bug")

    def close(self) -> None:
        """End all connections and the thread, within a second. Safe to call more than once."""
        self._server.should_exit = True
        self._thread.join(1)

    def _run(self, opened: socket.socket) -> None:
        async def serve() -> None:
            asyncio.get_running_loop().call_soon(self._ready.set)
            await self._server.serve([opened])

        try:
            asyncio.run(serve())
        finally:
            self._ready.set()
            opened.close()


class _Ending(uvicorn.Server):
    """A server that waits for nobody when it ends."""

    def __init__(self, config: uvicorn.Config, on_close: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_close = on_close

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_close()
        asyncio.get_running_loop().call_later(_LAST, self._abort)
        await super().shutdown(sockets)

    def _abort(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()
