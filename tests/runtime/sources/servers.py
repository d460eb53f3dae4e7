"""Servers that live sources connect to: real ones that can be killed, and hostile ones."""

from __future__ import annotations

import http.server
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.runtime.sources.live import WAIT, program, system_python

RTSP = Path(__file__).with_name("rtsp_server.py")
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def ending(process: subprocess.Popen) -> Iterator[subprocess.Popen]:
    """Kill a process at the end of the block."""
    try:
        yield process
    finally:
        process.kill()
        process.wait(WAIT)
        if process.stdout is not None:
            process.stdout.close()


def rtsp_server(port: int) -> subprocess.Popen:
    """Start GStreamer's RTSP server; return once it listens."""
    python = system_python("gi", "gi.repository.GLib")
    process = subprocess.Popen(
        [python, RTSP, str(port)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    said = process.stdout.readline()
    if said != "ready\n":
        with ending(process):
            pytest.fail(f"the RTSP server does not start: {said}")
    return process


def mjpeg_server(port: int, size: str = "64x48") -> subprocess.Popen:
    """Start ffmpeg as a camera that sends Motion JPEG over HTTP to the first who connects.

    It listens no longer than until then, so it cannot be asked whether it does.
    """
    source = ("-re", "-f", "lavfi", "-i", f"testsrc=size={size}:rate=25")
    sink = ("-f", "mpjpeg", "-listen", "1", f"http://127.0.0.1:{port}/camera")
    command = [program("ffmpeg"), *source, *sink]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, **QUIET)


def listens(port: int) -> bool:
    """Return whether a port is taken, without connecting."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    rows = (line.split() for line in lines)
    return any(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)


@contextmanager
def tcp_server(serve: Callable[[socket.socket], object]) -> Iterator[int]:
    """Serve every connection on a thread of its own; yields the port."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def handle(link: socket.socket) -> None:
            with link:
                serve(link)
                stop.wait(WAIT)

        def accept() -> None:
            while not stop.is_set():
                try:
                    link, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=handle, args=(link,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield server.getsockname()[1]
        finally:
            stop.set()
            server.shutdown(socket.SHUT_RDWR)


def then_silent(pictures: list[bytes]) -> Callable[[socket.socket], None]:
    """Return what sends pictures as Motion JPEG, and then nothing while the line stays open."""

    def serve(link: socket.socket) -> None:
        link.recv(4096)
        link.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=x\r\n\r\n"
        )
        for picture in pictures:
            head = f"--x\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
            link.sendall(head.encode() + picture + b"\r\n")

    return serve


@contextmanager
def web_server(pages: dict[str, tuple[str, bytes]], links: dict[str, str]) -> Iterator[int]:
    """Serve pages of a type and a content, and redirects; yields the port."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *words: object) -> None:
            pass

        def do_GET(self) -> None:
            if self.path in links:
                self.send_response(302)
                self.send_header("Location", links[self.path])
                self.end_headers()
                return
            kind, content = pages[self.path]
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
