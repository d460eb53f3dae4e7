"""Answer the requests of the page: its files, the stream, the token, a choice of task."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from runtime.errors import UdaError
from runtime.watch.sinks.base import Watched
from runtime.watch.web.access import Access
from runtime.watch.web.files import File
from runtime.watch.web.messages import States
from runtime.watch.web.viewers import MOST, Viewers

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_KIND, _NO_STORE = "application/octet-stream", {"Cache-Control": "no-store"}
_BODY, _SECONDS = 64 << 10, 10
"""Most bytes of a request's body, and most seconds to send it."""
_SCHEMA = {"choose": ("source", "task"), "enter": ("token",)}
"""Members of the JSON that is posted, all of them text."""


class Requests:
    """The routes of the page."""

    def __init__(
        self,
        watched: Watched,
        access: Access,
        states: States,
        viewers: Viewers,
        files: dict[str, File],
        control: bool,
    ) -> None:
        """Answer nothing yet.

        Args:
            watched: Program that is watched.
            access: Rules of who may.
            states: States of the cameras.
            viewers: Those who look.
            files: Files of the page by their paths.
            control: Whether tasks may be chosen.
        """
        self._watched, self._access, self._states = watched, access, states
        self._viewers, self._files, self._control = viewers, files, control

    def app(self) -> ASGIApp:
        """Return the application for a server."""
        routes = [
            Route("/stream", self._stream),
            Route("/enter", self._enter, methods=["POST"]),
            Route("/choose", self._choose, methods=["POST"]),
            *(Route(path, self._file) for path in self._files),
        ]
        return _guarded(Starlette(routes=routes), self._access)

    async def _file(self, request: Request) -> Response:
        file = self._files[request.url.path]
        headers = {"ETag": file.tag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == file.tag:
            return Response(status_code=304, headers=headers)
        return Response(file.content, media_type=file.type, headers=headers)

    async def _stream(self, request: Request) -> Response:
        if not self._access.admits(request.cookies):
            return _error(401, "this page needs the token that uda-runtime was started with")
        if self._viewers.full:
            return _error(503, f"{MOST} viewers are watching, which is the most; close one of them")
        if request.method == "HEAD":
            return Response(media_type=_KIND, headers=_NO_STORE)
        return _Stream(self._viewers, request.query_params.get("source"))

    async def _enter(self, request: Request) -> Response:
        found = await _posted(request, "enter")
        if not isinstance(found, dict):
            return found
        if not self._access.accepts(found["token"]):
            return _error(403, "this is not the token that uda-runtime was started with")
        return Response(status_code=204, headers={"Set-Cookie": self._access.cookie()})

    async def _choose(self, request: Request) -> Response:
        if not self._access.admits(request.cookies):
            return _error(401, "this page needs the token that uda-runtime was started with")
        if not self._control:
            return _error(403, "this page only shows; start uda-runtime watch with --control")
        found = await _posted(request, "choose")
        if not isinstance(found, dict):
            return found
        try:
            # A task may have to be read first, for which no viewer should wait.
            await asyncio.to_thread(self._watched.choose, found["source"], found["task"])
        except UdaError as error:
            return _error(409, str(error))
        self._states.outdate()
        return Response(status_code=204)


class _Stream(StreamingResponse):
    """Messages for one viewer, until the viewer leaves or the server ends."""

    def __init__(self, viewers: Viewers, only: str | None) -> None:
        super().__init__(viewers.messages(only), media_type=_KIND, headers=_NO_STORE)
        self._viewers = viewers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._viewers.one():
            await super().__call__(scope, receive, send)


async def _posted(request: Request, route: str) -> dict[str, str] | Response:
    """Return the JSON that was posted, or why it is refused."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        return _error(415, "expected JSON")
    body = bytearray()

    async def read() -> None:
        async for part in request.stream():
            body.extend(part[: _BODY + 1])
            if len(body) > _BODY:
                return

    try:
        await asyncio.wait_for(read(), _SECONDS)
        found = json.loads(body) if len(body) <= _BODY else None
    except (asyncio.TimeoutError, ClientDisconnect, ValueError, RecursionError):
        found = None
    names = _SCHEMA[route]
    if not isinstance(found, dict) or not all(isinstance(found.get(n), str) for n in names):
        return _error(400, f"expected JSON with {' and '.join(names)}, both text")
    return {name: found[name] for name in names}


def _error(status: int, text: str) -> Response:
    return JSONResponse({"error": text}, status, _NO_STORE)


def _guarded(app: Starlette, access: Access) -> ASGIApp:
    """Return an application that refuses what access refuses, and sends our headers."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def sends(event: Any) -> None:
            if event["type"] == "http.response.start":
                MutableHeaders(scope=event).update(_HEADERS)
            await send(event)

        headers = Headers(scope=scope)
        refusal = access.refuses(scope["method"], headers)
        answer: Callable[..., Awaitable[None]] = app if refusal is None else _error(*refusal)
        await answer(scope, receive, sends)

    return guarded
