"""examples/camera.py, as its users run it: in a process of its own, over a video it draws."""

import configparser
import functools
import http.server
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading

import cv2
import numpy as np
import pytest

from runtime.errors import UdaError
from runtime.sessions.session import Session
from tests.runtime.cameras import EXAMPLES, WAIT, finish, importable, read, start


@pytest.fixture
def examples():
    with importable():
        yield


@pytest.fixture
def video(examples, tmp_path):
    from screen import draw_video

    path = tmp_path / "own.avi"
    draw_video(path, 75)
    return path


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def check_log(world, path, every):
    """Check that each frame was classified by the task whose turn it was; return the lines."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    tasks = list(world.tasks)
    for line in lines:
        assert line["task"] == tasks[line["frame"] // every % len(tasks)]
        assert line["label"] in world.tasks[line["task"]].info.classes
    numbers = [line["frame"] for line in lines]
    assert numbers == sorted(set(numbers))
    return lines


def test_with_room_for_all_every_frame_gets_the_sessions_answer_by_the_task_of_its_turn(
    world, video, tmp_path
):
    log, out = tmp_path / "log", tmp_path / "out.avi"
    options = ("--every", 20, "--queue", 1000, "--pace", 0, "--log", log, "--out", out)
    counts = finish(start(world, video, *options))
    assert counts == {"captured": 75, "classified": 75, "dropped": 0, "switches": 3}
    frames, lines, shown = read(video), check_log(world, log, 20), read(out)
    assert len(frames) == len(lines) == len(shown) == 75
    with Session.open(world.path) as session:
        for line, image in zip(lines, frames, strict=True):
            want = session.predict(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), task=line["task"])
            assert (line["label"], line["score"]) == (want.label, want.score)
    # The overlay is a black bar with white letters, over nothing else of the frame.
    strip, below = np.stack([f[:30] for f in shown]), np.stack([f[60:] for f in shown])
    assert (strip > 200).any((1, 2, 3)).all() and np.median(strip) < 10
    assert np.abs(below.astype(int) - np.stack([f[60:] for f in frames])).mean() < 3


def test_on_the_video_it_draws_for_itself_what_it_cannot_keep_up_with_is_dropped(world, tmp_path):
    log = tmp_path / "log"
    options = ("--frames", 90, "--every", 30, "--pace", 300, "--queue", 1, "--log", log)
    counts = finish(start(world, *options))
    assert counts["captured"] == 90 and counts["classified"] > 0
    lines = check_log(world, log, 30)
    assert len(lines) == counts["classified"] and lines[-1]["frame"] == 89, "the last one is kept"
    changes = sum(a["task"] != b["task"] for a, b in zip(lines, lines[1:], strict=False))
    assert counts["switches"] == changes


def test_a_full_queue_drops_its_oldest_frame(examples):
    from capture import Frame, Latest

    queue, image = Latest(2), np.zeros((1, 1, 3), np.uint8)
    for number in range(5):
        queue.put(Frame(number, image))
    assert (queue.captured, queue.dropped) == (5, 3)
    assert [queue.get(0).number, queue.get(0).number, queue.get(0)] == [3, 4, None]
    queue.put(Frame(5, image))
    queue.close()
    assert queue.get(0).number == 5, "what came before the end is not lost"
    with pytest.raises(EOFError):
        queue.get(0)
    queue.put(Frame(6, image))
    queue.drop_rest()
    assert (queue.captured, queue.dropped) == (7, 4)
    queue.close(ValueError("gone"))
    with pytest.raises(ValueError, match="gone"):
        queue.get(0)


def test_a_camera_in_the_network_is_read_as_it_comes_and_its_end_is_an_error(video):
    from capture import Camera

    handler = functools.partial(Quiet, directory=video.parent)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/{video.name}"
        camera = Camera(address, 100, None, None)
        try:
            for frame in read(video):
                np.testing.assert_array_equal(camera.frames.get(WAIT).image, frame)
            with pytest.raises(UdaError, match=f"'{address}' gives no more frames; check"):
                camera.frames.get(WAIT)
        finally:
            camera.close()
            server.shutdown()


def test_systemd_hears_of_start_and_frames_and_a_stop_is_clean(world, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.bind(str(tmp_path / "notify"))
        link.settimeout(WAIT)
        variables = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}
        process = start(world, "--pace", 10, env=variables)  # 300 frames: half a minute
        try:
            assert link.recv(99) == b"READY=1"
            assert link.recv(99) == b"WATCHDOG=1"
            process.send_signal(signal.SIGTERM)
            counts = finish(process)
        finally:
            process.kill()
        assert 0 < counts["captured"] < 300
        heard = [b"WATCHDOG=1"]
        while heard[-1] == b"WATCHDOG=1":
            heard.append(link.recv(99))
        assert heard[-1] == b"STOPPING=1" and len(heard) - 1 == counts["classified"]


def test_keys_choose_the_task_and_end_it(world):
    main, terminal = os.openpty()
    process = start(world, "--every", 0, "--pace", 30, stdin=terminal)
    try:
        lines = [process.stdout.readline()]
        for key in ("3", "n", "9x", "2", "q"):
            os.write(main, key.encode())
            if key in "3n2":
                lines.append(process.stdout.readline())
        counts = finish(process)
    finally:
        process.kill()
        os.close(main)
        os.close(terminal)
    first, second, third = world.tasks
    assert [line.split()[-1] for line in lines] == [first, third, first, second]
    assert counts["switches"] == 3 and counts["captured"] < 300


def test_a_terminal_that_is_gone_ends_it_like_q(world):
    main, terminal = os.openpty()
    process = start(world, "--pace", 30, stdin=terminal)
    try:
        assert process.stdout.readline().startswith("frame 0: ")
        os.close(terminal)
        os.close(main)
        assert finish(process)["captured"] < 300
    finally:
        process.kill()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere.avi",), "cannot open 'nowhere.avi': file not found; check the path"),
        (("kept.avi",), "cannot open 'kept.avi' as a video; name a video file"),
        (("nosuchthing ! appsink",), "cannot open 'nosuchthing ! appsink'"),
        (("--task", "x-y"), "unknown task 'x-y'"),
        (("--out", "nowhere/out.avi"), "cannot write 'nowhere/out.avi': No such file or directory"),
        (("--out", "out.mp4"), "cannot write 'out.mp4': its name must end in .avi"),
        (("--log", "kept.avi/log"), "cannot write 'kept.avi/log': Not a directory; choose another"),
        (("--engines", ""), "the folder of engines must have a name"),
        (("kept.avi", "--out", "kept.avi"), "kept.avi' would be written over"),
        (("kept.avi", "--log", "kept.avi"), "kept.avi' would be written over"),
        (("--out", "one.avi", "--log", "one.avi"), "one.avi' would be written over"),
    ],
)
def test_what_cannot_be_opened_is_one_line_and_exit_code_one(world, tmp_path, arguments, message):
    (tmp_path / "kept.avi").write_text("precious")
    process = start(world, "--frames", 2, *arguments, cwd=tmp_path)
    out, err = process.communicate(timeout=WAIT)
    assert process.returncode == 1
    assert (tmp_path / "kept.avi").read_text() == "precious"
    assert "frame 0" not in out, "what cannot be written is told before the first frame"
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0] and "Traceback" not in err


@pytest.mark.skipif(
    not re.search("GUI: +NONE", cv2.getBuildInformation()), reason="this OpenCV has windows"
)
def test_an_opencv_without_windows_says_so_before_the_first_frame(world):
    process = start(world, "--frames", 2, "--window")
    out, err = process.communicate(timeout=WAIT)
    assert process.returncode == 1 and not out and err.count("\n") == 1
    assert err.startswith("error: this OpenCV has no windows; leave out --window, or install")


def test_without_opencv_it_says_what_to_install(world):
    code = "import runpy, sys; sys.modules['cv2'] = None; runpy.run_path(sys.argv[1])"
    command = [sys.executable, "-c", code, str(EXAMPLES / "camera.py")]
    found = subprocess.run(command, capture_output=True, text=True, timeout=WAIT)
    assert found.returncode == 1 and found.stderr.startswith("error: this example needs OpenCV")
    assert "pip install '.[camera]'" in found.stderr and found.stderr.count("\n") == 1


def test_the_units_command_line_is_one_that_the_example_takes(examples):
    from camera import main

    unit = configparser.RawConfigParser(strict=False)
    unit.read(EXAMPLES / "uda-camera.service")
    python, script, *arguments = shlex.split(unit["Service"]["ExecStart"])
    assert python.endswith("/python") and script.endswith("/examples/camera.py")
    given = main.make_context("camera", arguments).params
    assert given["source"] == "0" and given["every"] == 90
    assert unit["Service"]["Type"] == "notify" and unit["Service"]["Restart"] == "always"
    assert unit["Service"]["ExecReload"] == "/bin/kill -HUP $MAINPID"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not here")
def test_systemd_knows_every_line_of_the_unit(tmp_path):
    text = (EXAMPLES / "uda-camera.service").read_text()
    python = "/opt/uda-edge/.venv/bin/python"
    assert python in text
    (tmp_path / "uda-camera.service").write_text(text.replace(python, sys.executable))
    command = ["systemd-analyze", "verify", tmp_path / "uda-camera.service"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=WAIT)
    assert (found.returncode, found.stdout + found.stderr) == (0, "")
