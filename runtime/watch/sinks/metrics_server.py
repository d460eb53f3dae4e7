"""A small HTTP server whose clients cannot hold it up."""

from __future__ import annotations

import contextlib
import socket
import threading
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from runtime.errors import ConfigError

LOOPBACK = "127.0.0.1"
_PATIENCE = 10
"""Seconds that a client may be silent."""
CONNECTIONS = 16
"""Most connections at a time: each has a thread, and the cameras need files too."""


def parse(where: str) -> tuple[str, int]:
    """Return the host and the port of `[HOST:]PORT`; a host of IPv6 may stand in brackets.

    Raises:
        ConfigError: It is something else.
    """
    host, _, port = where.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    number = int(port) if port.isascii() and port.isdecimal() else -1
    if not 0 <= number < 1 << 16 or (":" in host and bare == host):
        raise ConfigError(f"--metrics must be [HOST:]PORT, such as 9101, found '{where}'")
    return bare or LOOPBACK, number


class _Handler(WSGIRequestHandler):
    timeout = _PATIENCE

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""


class Server(ThreadingMixIn, WSGIServer):
    """Serves a WSGI application in threads, until it is stopped."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, host: str, port: int, application: Any) -> None:
        """Listen; `start` answers.

        Args:
            host: Name or address of this machine.
            port: Port; 0 for any that is free.
            application: WSGI application.

        Raises:
            ConfigError: The port is taken, or the address is not of this machine.
        """
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            self.address_family, address = found[0][0], found[0][4]
            super().__init__(address[:2], _Handler)  # type: ignore[arg-type]
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(
                f"--metrics cannot listen on '{host}' port {port}: {reason}; choose another"
            ) from error
        self.set_app(application)
        self._lock = threading.Lock()
        self._open: dict[Any, None] = {}
        """Connections, the oldest first."""
        self._thread = threading.Thread(
            target=self.serve_forever, args=(0.1,), name="metrics", daemon=True
        )

    def server_bind(self) -> None:
        """Bind without asking the network for this machine's name, which may take long."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread; where there are too many connections, the oldest ends."""
        with self._lock:
            self._open[request] = None
            oldest = next(iter(self._open)) if len(self._open) > CONNECTIONS else None
            self._open.pop(oldest, None)
        if oldest is not None:
            with contextlib.suppress(OSError):  # it has ended by itself
                oldest.shutdown(socket.SHUT_RDWR)  # its thread closes it
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing: the client went away."""

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Answer no more."""
        self.shutdown()
        self.server_close()
        self._thread.join(1)
