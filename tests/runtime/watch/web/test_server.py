"""The page's server over real sessions: what it sends, refuses and survives."""

import contextlib
import io
import json
import re
import signal
import socket
import threading
import time

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette", reason="the extra [web] is not installed")
pytest.importorskip("uvicorn", reason="the extra [web] is not installed")

from runtime.errors import ConfigError
from runtime.watch.web import server
from runtime.watch.web.connection import CONNECTIONS
from runtime.watch.web.pictures import jpeg
from runtime.watch.web.sink import WebPage
from runtime.watch.web.viewers import MOST
from tests.runtime.watch.collecting import WAIT, eventually
from tests.runtime.watch.web.viewing import Viewer, ask, post, watching

TOKEN = "correct horse battery"


@pytest.fixture
def look():
    """Return a function that lets somebody look at a page until the end of the test."""
    viewers = []

    def viewer(*arguments, **options):
        viewers.append(Viewer(*arguments, **options))
        return viewers[-1]

    yield viewer
    for each in viewers:
        each.close()


def test_frames_carry_their_own_predictions(world, look):
    with (
        watching(world, ("door", "yard")) as (page, seen, _),
        contextlib.closing(look(page)) as viewer,
    ):
        state, _ = viewer.message()
        assert state["tasks"] == ["a-b", "a-c", "a-d"] and state["control"] is False
        assert [camera["name"] for camera in state["cameras"]] == ["door", "yard"]
        shown = [viewer.frame() for _ in range(5)]
        taken = {(each.source, each.frame.number): each for each in seen.seen}
    assert {document["source"] for document, _ in shown} == {"door", "yard"}
    for document, picture in shown:
        observation = taken[document["source"], document["number"]]
        want = observation.prediction.top(3)
        assert [name for name, _ in document["top"]] == [name for name, _ in want]
        np.testing.assert_allclose([p for _, p in document["top"]], [p for _, p in want], atol=1e-4)
        assert document["task"] == "a-b" and "confidence" not in document
        pixels = observation.frame.image
        assert picture.size == (pixels.shape[1], pixels.shape[0])
        assert np.abs(np.asarray(picture, float) - pixels).mean() < 4, "another frame's picture"


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((480, 640), (640, 480)), ((540, 960), (480, 270)), ((1080, 1920), (640, 360)),
        ((2160, 3840), (640, 360)), ((1920, 1080), (360, 640)), ((1, 4000), (667, 1)),
        ((1, 1), (1, 1)),
    ],
)  # fmt: skip
def test_large_frames_become_smaller_by_means_of_pixels(shape, size):
    frame = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    picture = Image.open(io.BytesIO(jpeg(frame, 640)))
    assert picture.size == size
    assert np.abs(np.asarray(picture, float).mean((0, 1)) - frame.mean((0, 1))).max() < 3


def test_a_state_a_second_has_counts_and_points(world, look):
    with watching(world) as (page, seen, watcher):
        viewer = look(page)
        viewer.message()
        state, _ = viewer.until(lambda d: d["kind"] == "state" and d["cameras"][0]["points"])
        (camera,) = state["cameras"]
        points, counts = camera["points"], camera["counts"]
        assert camera["state"] == "running" and camera["choice"] == camera["task"] == "a-b"
        assert 0 < counts["predicted"] <= watcher.status()[0].predicted
        assert 0 < sum(frames for _, frames, *_ in points) <= len(seen.seen)
        latencies = [each.milliseconds for each in seen.seen]
        for _, _, p50, p99, novelty, task in points:
            assert min(latencies) - 0.01 <= p50 <= p99 <= max(latencies) + 0.01
            assert novelty is None and task == "a-b"


def test_nothing_is_encoded_unless_somebody_looks(world, look):
    with watching(world) as (page, seen, _):
        eventually(lambda: len(seen.seen) >= 5)
        assert page.encoded == 0
        viewer, other = look(page), look(page)
        first = [(viewer.frame()[0]["number"], other.frame()[0]["number"]) for _ in range(4)]
        assert page.encoded < 8 + 2, f"each frame is encoded once for both: {first}"
        viewer.close()
        other.close()
        eventually(lambda: page.viewers == 0)
        encoded, count = page.encoded, len(seen.seen)
        eventually(lambda: len(seen.seen) >= count + 5)
        assert page.encoded == encoded


def test_a_viewer_may_ask_for_one_camera(world, look):
    with (
        watching(world, ("door", "yard")) as (page, _, _),
        contextlib.closing(look(page, "/stream?source=yard")) as viewer,
    ):
        assert {viewer.frame()[0]["source"] for _ in range(4)} == {"yard"}


def test_a_chosen_task_answers_the_next_frames(world, look):
    with (
        watching(world, control=True) as (page, seen, _),
        contextlib.closing(look(page)) as viewer,
    ):
        assert viewer.frame()[0]["task"] == "a-b"
        assert post(page, "/choose", {"source": "door", "task": "a-d"}) == (204, "")
        document, _ = viewer.until(lambda d: d.get("task") == "a-d")
        assert document["top"][0][0] in world.tasks["a-d"].info.classes
        eventually(lambda: viewer.frame()[0]["task"] == "a-d")
        state, _ = viewer.until(lambda d: d["kind"] == "state")
        assert state["cameras"][0]["choice"] == "a-d"
        status, error = post(page, "/choose", {"source": "door", "task": "zz"})
        assert status == 409 and "unknown task 'zz'" in error
        status, error = post(page, "/choose", {"source": "roof", "task": "a-b"})
        assert (status, error) == (409, "unknown source 'roof'; available: door")
        status, error = post(page, "/choose", {"source": "door", "task": "auto"})
        assert status == 409 and error
        assert viewer.frame()[0]["task"] == "a-d"


def test_requests_that_may_not_change_anything_are_refused(world):
    wanted = {"source": "door", "task": "a-d"}
    with watching(world) as (page, _, watcher):
        assert post(page, "/choose", wanted)[0] == 403, "without --control it only shows"
    with watching(world, control=True) as (page, _, watcher):
        for headers in (
            {"Origin": "http://evil.example"},
            {"Origin": "http://localhost:3000"},
            {"Host": "evil.example"},
            {"Sec_Fetch_Site": "cross-site"},
        ):
            assert post(page, "/choose", wanted, **headers)[0] in (403, 421), headers
        assert ask(page, "POST", "/choose", json.dumps(wanted))[0] == 403, "no Origin"
        assert post(page, "/choose", wanted, Content_Type="text/plain")[0] == 415
        assert ask(page, "GET", "/choose?source=door&task=a-d")[0] == 405
        for body in ([], {}, {"source": "door"}, {"source": 1, "task": "a-b"}, "x" * 70_000, None):
            assert post(page, "/choose", body)[0] == 400, body
        assert watcher.status()[0].choice == "a-b"


def test_pages_and_scripts_come_with_a_strict_policy(world):
    with watching(world) as (page, _, _):
        status, headers, content = ask(page, "GET", "/")
        assert status == 200 and headers["Content-Type"].startswith("text/html")
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        text = content.decode()
        assert re.findall(r"<script(?![^>]*src=)|<style| style=| on\w+=", text) == []
        for name in re.findall(r'(?:href|src)="([^"#][^"]*)"', text):
            status, headers, found = ask(page, "GET", f"/{name}")
            assert status == 200 and found, name
            again = ask(page, "GET", f"/{name}", If_None_Match=headers["ETag"])
            assert again[0] == 304 and not again[2]
        for path in ("/../sink.py", "/sink.py", "/index.html/", "/favicon.ico", "/%2e%2e/app.py"):
            assert ask(page, "GET", path)[0] == 404, path
        assert ask(page, "HEAD", "/stream")[0] == 200 and page.viewers == 0


def test_a_token_opens_the_page_until_it_is_another(world, look):
    with watching(world, token=TOKEN, control=True) as (page, _, _):
        assert ask(page, "GET", "/")[0] == 200, "which asks for the token"
        assert look(page).status == 401
        assert post(page, "/choose", {"source": "door", "task": "a-c"})[0] == 401
        assert post(page, "/enter", {"token": "wrong horse battery!"})[0] == 403
        body = json.dumps({"token": TOKEN})
        origin = f"http://127.0.0.1:{page.port}"
        status, headers, _ = ask(
            page, "POST", "/enter", body, Origin=origin, Content_Type="application/json"
        )
        assert status == 204 and "HttpOnly; SameSite=Strict" in headers["Set-Cookie"]
        cookie = headers["Set-Cookie"].partition(";")[0]
        assert look(page, cookie=cookie).frame()[0]["source"] == "door"
        wanted = {"source": "door", "task": "a-c"}
        assert post(page, "/choose", wanted, Cookie=cookie) == (204, "")
        assert look(page, cookie=cookie[:-1]).status == 401


def test_a_token_may_come_from_the_environment(world, look, monkeypatch):
    monkeypatch.setenv("UDA_WEB_TOKEN", TOKEN)
    with watching(world) as (page, _, _):
        assert look(page).status == 401
        assert post(page, "/enter", {"token": TOKEN}) == (204, "")
    monkeypatch.setenv("UDA_WEB_TOKEN", "short")
    with pytest.raises(ConfigError, match="at least 16"):
        WebPage(0)


def test_one_viewer_too_many_is_refused_with_a_reason(world, look):
    with watching(world) as (page, _, _):
        viewers = [look(page) for _ in range(MOST)]
        assert {viewer.status for viewer in viewers} == {200}
        last = look(page)
        assert last.status == 503 and b"32 viewers are watching" in last.answer.read()
        viewers[0].close()
        eventually(lambda: page.viewers < MOST)
        assert look(page).status == 200


def test_a_slow_viewer_gets_the_latest_and_delays_nobody(world, look):
    with watching(world) as (page, seen, _):
        slow, quick = look(page, room=4096), look(page)
        slow.message()
        before = quick.frame()[0]["number"]
        numbers = [quick.frame()[0]["number"] for _ in range(12)]
        assert numbers == sorted(numbers) and numbers[0] > before
        latest = seen.seen[-1].frame.number
        late = [slow.frame()[0]["number"] for _ in range(8)]
        skipped = np.diff(late)
        assert late == sorted(late) and skipped.max() >= 10, late
        assert late[-1] >= latest, "what had waited was thrown away"


def test_closing_ends_viewers_threads_and_the_port(world, look):
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with watching(world) as (page, _, _):
        for _ in range(5):
            look(page, room=4096)
        idle = socket.create_connection(("127.0.0.1", page.port))
        half = socket.create_connection(("127.0.0.1", page.port))
        half.sendall(b"POST /choose HTTP/1.1\r\nHost: localhost\r\nContent-Len")
        leaving = look(page)
        leaving.frame()
        assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
        began = time.monotonic()
        page.close()
        took = time.monotonic() - began
        page.close()
    assert took < 5, "without waiting for anybody"
    assert not [each for each in threading.enumerate() if each.name == "web"]
    with pytest.raises(AssertionError, match="ended"):
        while True:
            leaving.message()
    for each in (idle, half):
        assert each.recv(1) == b""
        each.close()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", page.port))


def test_a_taken_port_is_one_clear_error():
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        page = WebPage(port)
        with pytest.raises(ConfigError, match=f"port {port}: another program uses it; choose"):
            page.start(_nothing())
        page.close()
    for host in ("999.1.1.1", "no such host", "a" * 300):
        page = WebPage(0, host=host, token=TOKEN)
        with pytest.raises(ConfigError, match="cannot listen at"):
            page.start(_nothing())
        page.close()


def test_what_is_not_http_is_answered_or_closed(world):
    with watching(world) as (page, _, _):
        for sent in (b"\x16\x03\x01" + bytes(200), b"GET / HTTP/9.9\r\n\r\n", b"X" * 100_000):
            with socket.create_connection(("127.0.0.1", page.port)) as opened:
                with contextlib.suppress(ConnectionError):
                    opened.sendall(sent)
                    assert opened.recv(100).startswith((b"HTTP/1.1 400", b"HTTP/1.1 421"))
        assert ask(page, "GET", "/")[0] == 200


def test_whoever_opens_many_connections_keeps_nobody_out(world, look):
    with watching(world) as (page, _, _), contextlib.ExitStack() as stack:
        viewer = look(page)
        for number in range(CONNECTIONS + 20):
            opened = socket.create_connection(("127.0.0.1", page.port), WAIT)
            stack.enter_context(opened)
            if number % 2:
                opened.sendall(
                    b"POST /enter HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
                )
            else:
                opened.sendall(b"GET /icon.svg HTTP/1.1\r\nHost: localhost\r\n\r\nG")
        assert ask(page, "GET", "/")[0] == 200
        viewer.frame()
        viewer.frame()


def test_a_connection_is_not_kept_by_half_a_request(world, monkeypatch):
    monkeypatch.setattr(server, "IDLE", 0.2)
    with (
        watching(world) as (page, _, _),
        socket.create_connection(("127.0.0.1", page.port)) as opened,
    ):
        opened.sendall(b"GET /icon.svg HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert opened.recv(1000).startswith(b"HTTP/1.1 200")
        opened.sendall(b"GET /icon.svg HTTP/1.1\r\nX: ")
        opened.settimeout(10)
        with contextlib.suppress(ConnectionError):
            while opened.recv(1000):
                pass


def test_whoever_leaves_while_posting_leaves_no_traceback(world, caplog):
    with watching(world, control=True) as (page, _, _):
        head = (
            "POST /choose HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n"
            "Content-Type: application/json\r\nContent-Length: 10\r\n\r\n{"
        )
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", page.port)) as opened:
                opened.sendall(head.encode())
                assert ask(page, "GET", "/")[0] == 200
        assert ask(page, "GET", "/")[0] == 200
    assert not caplog.records


class _nothing:
    """A program that watches nothing yet."""

    def status(self):
        return ()
