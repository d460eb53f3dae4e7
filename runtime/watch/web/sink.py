"""The sink that shows observations on a page."""

from __future__ import annotations

import os
import socket

from runtime.console import echo
from runtime.watch.observation import Observation
from runtime.watch.sinks.base import Sink, Watched
from runtime.watch.web import files as page_files
from runtime.watch.web.access import Access, check_token, is_loopback
from runtime.watch.web.app import Requests
from runtime.watch.web.cameras import Camera
from runtime.watch.web.messages import States
from runtime.watch.web.pictures import Pictures
from runtime.watch.web.server import Server, listen
from runtime.watch.web.viewers import Viewers

HOST = "127.0.0.1"
TOKEN = "UDA_WEB_TOKEN"
"""Environment variable with the token: a command line is seen by other users."""


class WebPage(Sink):
    """A live page. While nobody looks, an observation costs it a few microseconds."""

    def __init__(
        self, port: int, host: str = HOST, token: str | None = None, control: bool = False
    ) -> None:
        """Serve nothing yet.

        Args:
            port: Port; 0 takes a free one.
            host: Address or name of this machine to listen at.
            token: Secret of those who may see the page; needed unless `host` is this machine alone.
                None takes it from the environment, if it is there.
            control: Whether those who see it may choose tasks.

        Raises:
            ConfigError: A token is missing or short.
        """
        token = os.environ.get(TOKEN) or None if token is None else token
        check_token(token, host, is_loopback(host))
        self._port, self._host, self._token, self._control = port, host, token, control
        self._cameras: dict[str, Camera] = {}
        self._server: Server | None = None
        self._pictures: Pictures | None = None
        self._viewers: Viewers | None = None

    @property
    def port(self) -> int:
        """The port of the page."""
        return self._port

    @property
    def address(self) -> str:
        """The address of the page."""
        return f"http://{_shown(self._host)}:{self._port}/"

    @property
    def viewers(self) -> int:
        """Number of viewers."""
        return 0 if self._viewers is None else self._viewers.count

    @property
    def encoded(self) -> int:
        """Number of pictures that were encoded."""
        return 0 if self._pictures is None else self._pictures.count

    def start(self, watched: Watched) -> None:
        """Begin to serve.

        Raises:
            ConfigError: The port is taken, or is not for this user.
        """
        opened = listen(self._host, self._port)
        self._port = opened.getsockname()[1]
        self._cameras = {each.name: Camera(each.name) for each in watched.status()}
        found = page_files.read()
        fixed = {"page": page_files.version(found), "control": self._control}
        states = States(watched, self._cameras, fixed)
        self._pictures = Pictures(len(self._cameras))
        self._viewers = viewers = Viewers(self._cameras, states, self._pictures)
        access = Access(self._token, self._port)
        requests = Requests(watched, access, states, viewers, found, self._control)
        self._server = Server(requests.app(), opened, viewers.close)
        asks = "" if self._token is None else ", which asks for the token"
        echo(f"page: {self.address}{asks}", err=True)

    def take(self, observation: Observation) -> None:
        """Show an observation to whoever looks."""
        camera = self._cameras.get(observation.source)
        if camera is not None:
            camera.take(observation)

    def close(self) -> None:
        """End the page within a second, also while it is watched. Safe to call more than once."""
        if self._server is not None:
            self._server.close()


def _shown(host: str) -> str:
    """Return a host as it stands in an address; this machine's name for one that means all."""
    if host in ("0.0.0.0", "::", ""):
        host = socket.gethostname()
    return f"[{host}]" if ":" in host else host
