"""Cameras in the network: lost, stalled, hostile, and found again."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime.errors import ConfigError
from runtime.sources import open_inputs
from runtime.sources.base import Input
from runtime.sources.live import CONNECTIONS, Entry, camera, opening, stream
from runtime.sources.live.address import redacted
from runtime.sources.live.backoff import FIRST, LONGEST, Backoff
from runtime.sources.live.base import Connection
from runtime.sources.live.camera import Camera
from tests.runtime.sources.live import WAIT, film, system_python, take, until
from tests.runtime.sources.servers import (
    ending,
    free_port,
    listens,
    mjpeg_server,
    rtsp_server,
    tcp_server,
    then_silent,
    web_server,
)

cv2 = pytest.importorskip("cv2", reason="the extra [camera] is not installed")
REPOSITORY = Path(__file__).parents[3]


@pytest.fixture
def soon(monkeypatch) -> None:
    """Try again sooner."""
    monkeypatch.setattr("runtime.sources.live.backoff.FIRST", 0.05)
    monkeypatch.setattr("runtime.sources.live.backoff.LONGEST", 0.2)


def adds_up(camera: Camera, taken: int) -> bool:
    counts = camera.counts()
    return counts.captured == taken + counts.skipped + counts.dropped + counts.waiting


def test_the_wait_doubles_up_to_half_a_minute_with_jitter_and_starts_again():
    backoff = Backoff(7)
    waits = [backoff.wait() for _ in range(9)]
    for number, wait in enumerate(waits):
        longest = min(FIRST * 2**number, LONGEST)
        assert longest / 2 <= wait <= longest
    assert len({wait / min(FIRST * 2**n, LONGEST) for n, wait in enumerate(waits)}) == 9
    assert waits != [Backoff(8).wait() for _ in range(9)]
    backoff.reset()
    assert backoff.wait() <= FIRST


def test_a_motion_jpeg_camera_that_is_killed_comes_back(soon):
    port, errors = free_port(), []
    address = f"http://127.0.0.1:{port}/camera"
    with ending(mjpeg_server(port)) as first:
        until(lambda: listens(port))
        with Camera(
            "m", address, on_error=lambda camera, error: errors.append(str(error))
        ) as camera:
            frames = take(camera, 5)
            assert frames[0].image.shape == (48, 64, 3) and camera.state == "running"
            first.kill()
            until(lambda: camera.state == "reconnecting")
            before = camera.counts().captured
            with ending(mjpeg_server(port)):
                until(lambda: camera.counts().captured > before + 2)
                frames += take(camera, 2)
                assert camera.state == "running" and camera.error is None
                assert camera.reconnects == 1
    assert errors[0] == f"'{address}' gives no more frames; check the camera and its cable"
    numbers = [frame.number for frame in frames]
    assert numbers == sorted(set(numbers)) and adds_up(camera, 7)


def test_an_rtsp_camera_that_stalls_is_left_and_one_that_is_killed_comes_back(soon):
    port = free_port()
    address = f"rtsp://admin:s3cret@127.0.0.1:{port}/live"
    with ending(rtsp_server(port)) as first:
        with Camera("r", address, stall=0.6) as camera:
            take(camera, 3)
            first.send_signal(signal.SIGSTOP)
            until(lambda: camera.state == "stalled")
            shown = f"'rtsp://***@127.0.0.1:{port}/live'"
            assert str(camera.error).startswith(f"{shown} gives no frame for")
            first.send_signal(signal.SIGCONT)
            until(lambda: camera.state == "running")
            assert camera.reconnects == 1
            first.kill()
            until(lambda: camera.state == "reconnecting")
            with ending(rtsp_server(port)) as second:
                until(lambda: camera.state == "running")
                taken = 3 + len(take(camera, 3))
                assert camera.reconnects == 2
                second.send_signal(signal.SIGSTOP)  # in the middle of a read
                began = time.monotonic()
                camera.close()
                assert time.monotonic() - began < 2
        assert adds_up(camera, taken) and camera.state == "ended"


def test_a_wrong_password_is_an_error_without_the_password():
    port = free_port()
    with ending(rtsp_server(port)):
        with Camera("r", f"rtsp://admin:wr0ng@127.0.0.1:{port}/live") as camera:
            until(lambda: camera.error)
            said = f"{camera.error} {camera.shown} {[t.name for t in threading.enumerate()]}"
    assert f"127.0.0.1:{port} answers, but with no video; check path, user and password" in said
    assert "wr0ng" not in said and "admin" not in said


def test_a_camera_that_sends_nothing_more_is_stalled_and_connected_again(soon):
    picture = io.BytesIO()
    Image.fromarray(np.full((48, 64, 3), 90, np.uint8)).save(picture, "JPEG")
    with tcp_server(then_silent([picture.getvalue()] * 30)) as port:
        with Camera("s", f"http://127.0.0.1:{port}/", 2, stall=0.4) as camera:
            take(camera, 1)
            until(lambda: camera.state == "stalled")
            until(lambda: camera.state == "running" and camera.reconnects == 1)
            assert camera.counts().captured > 30
            began = time.monotonic()
        assert time.monotonic() - began < 2 and adds_up(camera, 1)


def test_a_camera_that_does_not_answer_holds_up_no_other(monkeypatch, soon):
    monkeypatch.setattr(stream, "OPENING", 3.0)
    monkeypatch.setattr(opening, "OPENING", 1.0)
    monkeypatch.setattr(stream, "_SLOW", 0.5)
    monkeypatch.setattr(camera, "_OPENING", 1.5)
    picture, asked, on = io.BytesIO(), threading.Event(), threading.Event()
    Image.fromarray(np.full((48, 64, 3), 90, np.uint8)).save(picture, "JPEG")
    sends = then_silent([picture.getvalue()] * 30)
    errors: list[str] = []

    def dead(link: socket.socket) -> None:
        asked.set()
        if on.is_set():
            with contextlib.suppress(ConnectionError):  # whoever asks leaves soon
                sends(link)

    with tcp_server(dead) as off, tcp_server(sends) as port:
        with Camera("dead", f"http://127.0.0.1:{off}/", 2, stall=1.5) as late:
            assert asked.wait(WAIT)
            with Camera(
                *("good", f"http://127.0.0.1:{port}/", 2),
                stall=1.5,
                on_error=lambda camera, error: errors.append(str(error)),
            ) as good:
                take(good, 2)
                assert errors == [], "it is not to blame that it had to wait"
            until(lambda: "timed out; check that the camera is on" in str(late.error))
            on.set()
            take(late, 2)


def test_a_program_ends_without_waiting_though_a_server_never_answers():
    code = (
        "import sys, time; from runtime.sources.live.camera import Camera\n"
        "with Camera('s', sys.argv[1]) as camera: print(camera.frames.get(0.5), camera.state)\n"
        "print(camera.hanging)"
    )
    with tcp_server(lambda link: None) as port:
        done = subprocess.run(
            [sys.executable, "-c", code, f"rtsp://u:pw@127.0.0.1:{port}/"],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=2 * WAIT,
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "None connecting\n1\n", "")


class Pipe(Connection):
    """Hangs in the system, as a driver may: nobody ever writes into its pipe."""

    def open(self) -> None:
        os.close(os.open(self.where[5:], os.O_RDONLY))

    def read(self):
        return None

    def close(self) -> None:
        pass


def test_what_comes_over_the_network_is_what_the_file_holds(tmp_path, soon):
    path = film(tmp_path / "film.avi", 20)
    with open_inputs([Input(str(path), "f")], "white") as source:
        want = [item.frame for item in source]
    with web_server({"/film": ("video/x-msvideo", path.read_bytes())}, {}) as port:
        address = f"http://127.0.0.1:{port}/film"
        with Camera("f", address, 100) as camera:
            for found, image in zip(take(camera, 20), want, strict=True):
                np.testing.assert_array_equal(found.image, image)
            until(lambda: camera.error)
            assert str(camera.error).startswith(f"'{address}' gives no more frames; check")


def test_threads_that_hang_are_few_and_are_found_again(tmp_path, monkeypatch, soon):
    where = tmp_path / "pipe"
    os.mkfifo(where)
    module = sys.modules[__name__]
    monkeypatch.setitem(sys.modules, "hanging_pipe", module)
    entry = Entry("hanging_pipe:Pipe", lambda where: where.startswith("pipe:"))
    monkeypatch.setattr("runtime.sources.live.CONNECTIONS", {"pipe": entry, **CONNECTIONS})
    monkeypatch.setattr(camera, "_OPENING", 0.05)
    errors: list[str] = []
    with Camera(
        *("p", f"pipe:{where}"),
        stall=0.05,
        on_error=lambda camera, error: errors.append(str(error)),
    ) as hung:
        until(lambda: "hang in the camera's driver" in str(hung.error))
        time.sleep(0.1)
        assert hung.hanging == 4 and hung.state == "stalled"
        began = time.monotonic()
        hung.close()
        assert time.monotonic() - began < 2 and hung.state == "ended"
    assert errors[0].endswith("gives no answer for 0 s; check the camera and its cable")
    with open(where, "w"):
        until(lambda: hung.hanging == 0)


def test_a_pipeline_needs_an_opencv_with_gstreamer():
    if "GStreamer:                   YES" in cv2.getBuildInformation():
        pytest.skip("this OpenCV has GStreamer")
    said = (
        r"^cannot open the pipeline 'a pw=\*\*\* ! appsink': this OpenCV has no GStreamer, as "
        r"those of PyPI are; use the one of JetPack or of Debian \(python3-opencv\)$"
    )
    with pytest.raises(ConfigError, match=said):
        Camera("g", "a pw=s3cret ! appsink")


def test_a_pipeline_is_read_by_an_opencv_that_has_gstreamer():
    python = system_python("cv2", "PIL")
    code = """if True:
        from runtime.errors import ConfigError
        from runtime.sources.live.camera import Camera
        head = "videotestsrc pattern=red ! video/x-raw,width=64,height=48"
        try:
            Camera("g", head + " ! fakesink")
        except ConfigError as error:
            print(error)
        for end in (" ! videoconvert ! video/x-raw,format=BGR", ",format=NV12"):
            with Camera("g", f"{head}{end} ! appsink drop=1 max-buffers=1") as camera:
                frame = None
                while frame is None and camera.error is None:
                    frame = camera.frames.get(0.1)
                print(camera.error if frame is None else (frame.image.shape, *frame.image[0, 0]))
    """
    done = subprocess.run(
        [python, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=2 * WAIT
    )
    lines = done.stdout.splitlines()
    if lines and "this OpenCV has no GStreamer" in lines[0]:
        pytest.skip("the system's OpenCV has no GStreamer")
    assert done.returncode == 0, done.stderr
    assert "fakesink' has no appsink; end it in videoconvert ! video/x-raw,format=BGR !" in lines[0]
    assert lines[1] == "((48, 64, 3), 255, 0, 0)"
    assert (
        "gives frames of shape (72, 64) and type uint8, expected 8 bits of blue, gree" in lines[2]
    )


def test_nothing_but_the_address_itself_is_read_of_this_machine(tmp_path):
    """A camera, or who answers in its place, may not choose files of ours."""
    secret = film(tmp_path / "secret.mp4", 20)
    head = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n"
    hls = "application/vnd.apple.mpegurl"
    pages = {
        "/file.m3u8": (hls, f"{head}file://{secret}\n#EXT-X-ENDLIST\n".encode()),
        "/concat.m3u8": (hls, f"{head}concat:{secret}\n#EXT-X-ENDLIST\n".encode()),
        "/list.txt": ("text/plain", f"ffconcat version 1.0\nfile file://{secret}\n".encode()),
        "/own.mp4": ("video/x-msvideo", secret.read_bytes()),
    }
    with web_server(pages, {"/redirect": f"file://{secret}"}) as port:
        for path in (*pages, "/redirect"):
            with Camera("h", f"http://127.0.0.1:{port}{path}") as camera:
                until(lambda: camera.error)
                assert bool(camera.counts().captured) == (path == "/own.mp4"), path
    for where in (
        f"file://{secret}",
        "FILE:///etc/passwd",
        "gopher://h/x",
        "rtsp://",
        "http://h:0/",
    ):
        with pytest.raises(ConfigError, match="is not an address that can be watched; expected"):
            Camera("h", where)


@pytest.mark.parametrize(
    ("where", "shown"),
    [
        (
            "rtsp://admin:s3cret@10.0.0.7:554/live?channel=1",
            "rtsp://***@10.0.0.7:554/live?channel=1",
        ),
        ("rtsp://admin:s3@cr/et?@10.0.0.7/live", "rtsp://***@10.0.0.7/live"),
        ("RTSP://s3cret@h/x", "RTSP://***@h/x"),
        ("rtsp:/admin:s3cret@h/x", "rtsp:/***@h/x"),
        ("admin:s3cret@h/x", "***@h/x"),
        ("http://h/v?user=a&password=s3cret&x=1", "http://h/v?user=a&password=***&x=1"),
        ("http://h/v?loginpas=s3cret", "http://h/v?loginpas=***"),
        ("http://h/v?access_token=s3cret#t", "http://h/v?access_token=***#t"),
        (
            'rtspsrc location=rtsp://a:s3cret@h/x user-id=a user-pw="s3c ret" ! appsink',
            "rtspsrc location=rtsp://***@h/x user-id=a user-pw=*** ! appsink",
        ),
        (
            r'souphttpsrc extra-headers="a,Authorization=(string)\"Basic s3cret\"" ! appsink',
            "souphttpsrc extra-headers=*** ! appsink",
        ),
        ("x264enc key-int-max=30 ! appsink emit-signals=true", None),
        ("/dev/v4l/by-id/usb-046d_HD:Pro-index0", None),
        ("rtsp://10.0.0.7:554/live?x=1", None),
        ("/data/clips/monday.mp4", None),
        ("0", None),
    ],
)
def test_what_is_shown_of_an_address(where, shown):
    assert redacted(where) == (where if shown is None else shown)
    assert "s3c" not in redacted(f"cannot open '{where}': no")
