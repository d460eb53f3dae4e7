"""A page over a real watcher, and a viewer of it that speaks HTTP."""

import contextlib
import http.client
import io
import json
import socket
import struct

from PIL import Image

from runtime.sessions.session import Session
from runtime.watch.settings import SourceSettings
from runtime.watch.watcher import Watcher
from runtime.watch.web.sink import WebPage
from tests.runtime.watch.collecting import WAIT, Collect


@contextlib.contextmanager
def watching(world, names=("door",), task="a-b", **options):
    """Watch drawn streets with a page; give the page, what it took and the watcher."""
    seen, page = Collect(), WebPage(0, **options)
    sources = [SourceSettings(name, f"demo:{i}", task=task) for i, name in enumerate(names)]
    with Session.open(world.path) as session, Watcher(session, sources, [seen, page]) as watcher:
        yield page, seen, watcher


def ask(page, method, path, body=None, **headers):
    """Return the status, the headers and the content of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=WAIT)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, answer.headers, content


def post(page, path, value, **headers):
    """Post JSON as the page itself does; return the status and what the answer says is wrong."""
    own = {"Origin": f"http://127.0.0.1:{page.port}", "Content-Type": "application/json"}
    sent = {**own, **{name.replace("_", "-"): value for name, value in headers.items()}}
    status, _, content = ask(page, "POST", path, json.dumps(value), **sent)
    return status, json.loads(content)["error"] if content else ""


class Viewer:
    """Somebody who looks at the page."""

    def __init__(self, page, path="/stream", room=None, cookie=None):
        self._connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=WAIT)
        opened = socket.socket()
        if room is not None:  # of the kernel, for what is not read yet
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        opened.settimeout(WAIT)
        opened.connect(("127.0.0.1", page.port))
        self._connection.sock = opened
        self._connection.request("GET", path, headers={"Cookie": cookie} if cookie else {})
        self.answer = self._connection.getresponse()
        self.status = self.answer.status

    def message(self):
        """Return the next message: a document and a picture, if it has one."""
        lengths = self.answer.read(8)
        assert len(lengths) == 8, "the stream has ended"
        text, picture = struct.unpack("<II", lengths)
        document = json.loads(self.answer.read(text))
        return document, Image.open(io.BytesIO(self.answer.read(picture))) if picture else None

    def until(self, true):
        """Return the first message whose document fulfils a condition."""
        while True:
            document, picture = self.message()
            if true(document):
                return document, picture

    def frame(self):
        """Return the next frame."""
        return self.until(lambda document: document["kind"] == "frame")

    def close(self):
        self.answer.close()
        self._connection.close()
