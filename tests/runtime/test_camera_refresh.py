"""examples/camera.py takes over tasks that are installed or removed while it runs."""

import json
import re
import signal
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest

from runtime.bundles import bundle
from runtime.bundles.install import install, remove, rollback
from runtime.errors import FormatError, TaskError
from runtime.sessions.session import Session
from runtime.storage.digest import tensors_sha256
from tests.runtime.cameras import EXAMPLES, WAIT, finish, importable, read, start, until
from tests.runtime.helpers import newer, under


@pytest.fixture
def examples():
    with importable():
        yield


def test_on_sighup_a_task_that_was_installed_meanwhile_is_classified_too(
    examples, world, write_task, tmp_path
):
    log, file = tmp_path / "log", write_task(newer(under(world.tasks["a-c"], "a-new")))
    process = start(world, "--every", 5, "--queue", 900, "--frames", 900, "--log", log)
    try:
        until(process, "frame 0: task a-b")
        install(world.path, file)
        until(process, "frame 15: task a-b")  # all that it knows had their turn
        process.send_signal(signal.SIGHUP)
        assert until(process, "changed: .*") == "changed: a-new; in turn: a-b, a-c, a-d, a-new"
        found = until(process, r"frame \d+: task a-new")
        process.send_signal(signal.SIGTERM)
        counts = finish(process)
    finally:
        process.kill()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(lines) == counts["classified"] == lines[-1]["frame"] + 1, "no frame was lost to it"
    from screen import draw_video

    draw_video(tmp_path / "same.avi", 900)
    frames = read(tmp_path / "same.avi")
    (number,) = map(int, re.findall(r"\d+", found))
    assert lines[number]["task"] == "a-new" and number // 5 % 4 == 3
    with Session.open(world.path) as session:
        for line in lines:
            rgb = cv2.cvtColor(frames[line["frame"]], cv2.COLOR_BGR2RGB)
            want = session.predict(rgb, task=line["task"])
            assert (line["label"], line["score"]) == (want.label, want.score)


def test_a_refresh_that_fails_is_one_line_and_the_camera_goes_on(world, tmp_path):
    first = world.tasks["a-b"]
    base = {name: 2 * array for name, array in world.base.items()}
    other = {**world.parts, "tensors": base}
    other["tasks"] = [replace(first, base_sha256=tensors_sha256(base))]
    process = start(world, "--every", 5, "--queue", 900, "--frames", 900)
    try:
        until(process, "frame 0: task a-b")
        bundle.write(world.path, **other)
        process.send_signal(signal.SIGHUP)
        error = process.stderr.readline()
        assert error.startswith(f"error: '{world.path}' has changed its tensors")
        assert error.endswith("; going on as before with a-b, a-c, a-d\n")
        for task in world.tasks:
            until(process, rf"frame \d+: task {task}")
        bundle.write(world.path, **world.parts)
        process.send_signal(signal.SIGHUP)
        assert until(process, "changed: .*") == "changed: nothing; in turn: a-b, a-c, a-d"
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=WAIT)
    finally:
        process.kill()
    assert process.returncode == 0 and err == ""
    counts = json.loads(out.splitlines()[-1])
    assert counts["captured"] == counts["classified"] + counts["dropped"]


def test_tasks_that_were_asked_for_leave_their_turns_and_come_back(examples, world, write_task):
    from turns import Director

    with Session.open(world.path) as session:
        director = Director(session, ["a-d", "a-b"], 10)
        assert [director.task(number) for number in (0, 9, 10, 20)] == ["a-d", "a-d", "a-b", "a-d"]
        director.press("2")
        remove(world.path, "a-b")
        install(world.path, write_task(under(world.tasks["a-c"], "a-new")))
        assert sorted(director.refresh()) == ["a-b", "a-new"]
        assert director.tasks == ("a-d",) and director.task(10) == "a-d"
        director.press("n")
        assert director.task(10) == "a-d"
        remove(world.path, "a-d")
        with pytest.raises(TaskError, match="none of the tasks a-d, a-b is left .*a-c, a-new;"):
            director.refresh()
        assert director.task(0) == "a-d" and session.tasks == ("a-c", "a-d", "a-new")
        assert session.predict(np.zeros((9, 9, 3), np.uint8), task="a-d").task == "a-d"
        rollback(world.path, "a-b")
        assert sorted(director.refresh()) == ["a-b", "a-d"]
        assert director.task(0) == "a-b"
        assert director.refresh() == ()


def test_a_key_chooses_among_the_tasks_that_are_there(examples, world):
    from turns import Director

    with Session.open(world.path) as session:
        director = Director(session, [], 10)
        director.press("3")
        assert director.task(0) == "a-d"
        remove(world.path, "a-c")
        assert director.refresh() == ("a-c",)
        assert director.task(0) == "a-d", "who was chosen stays, at another place"
        remove(world.path, "a-d")
        director.refresh()
        director.press("n")
        assert director.task(50) == "a-b", "the next of one that is gone is the first"


def test_a_damaged_new_version_is_found_before_its_turn(examples, world, write_task):
    from turns import Director

    with Session.open(world.path) as session:
        director = Director(session, [], 10)
        before = session.predict(np.zeros((9, 9, 3), np.uint8), task="a-c").logits
        session.switch("a-b")
        file = world.path / install(world.path, write_task(newer(world.tasks["a-c"]))).file.path
        file.write_bytes(file.read_bytes()[:-1] + b"?")
        with pytest.raises(FormatError, match=f"'{file}' "):
            director.refresh()
        assert session.task == "a-b"
        after = session.predict(np.zeros((9, 9, 3), np.uint8), task="a-c").logits
        np.testing.assert_array_equal(after, before)


def test_where_there_is_no_sighup_it_runs_as_ever(world):
    code = "import runpy, signal, sys; del signal.SIGHUP; del sys.argv[0]; "
    code += f"sys.path[0] = {str(EXAMPLES)!r}; runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", code, EXAMPLES / "camera.py", world.path, "--frames", "3"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    counts = finish(subprocess.Popen(command, text=True, stdin=subprocess.DEVNULL, **pipes))
    assert counts["captured"] == 3
