"""examples/: a program of one's own around a camera, and `uda-runtime watch` as a service."""

import configparser
import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime.commands import watch as command
from runtime.commands.watch_config import SOURCES
from runtime.commands.watch_settings import sources_of
from runtime.sessions.session import Session
from tests.runtime.conftest import SIZE
from tests.runtime.watch.collecting import WAIT

EXAMPLES = Path(__file__).parents[3] / "examples"
TURNS = ["a-b", "a-d", "a-b"]
PROGRAM = "/opt/uda-edge/.venv/bin/uda-runtime"


@contextmanager
def camera(world, *words):
    """Run examples/camera.py."""
    command = [sys.executable, EXAMPLES / "camera.py", world.path, *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, text=True, **pipes)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_the_task_follows_the_light_and_labels_are_the_sessions(world, tmp_path):
    draw, frames = np.random.default_rng(0), []
    for number in range(30):  # of a folder none is dropped
        colour = draw.integers(0, 40, 3) if 10 <= number < 20 else draw.integers(120, 256, 3)
        frames.append(np.full((SIZE, SIZE, 3), colour, np.uint8))
        path = tmp_path / f"{number:02}.png"
        Image.fromarray(frames[-1]).save(path)
        os.utime(path, (number, number))
    printed = []
    with camera(world, tmp_path, "--day", "a-b", "--night", "a-d") as process:
        while [task for task, _ in itertools.groupby(task for _, _, task in printed)] != TURNS:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            printed += re.findall(r"frame (\d+): (.+) \(task (.+)\)\n", line)
    # The frame that it sees the change in still has the former task.
    assert [int(number) // 10 for number, _, task in printed if task == "a-d"][0] == 1
    assert printed[-1][0] == "21"
    with Session.open(world.path) as session:
        for number, label, task in printed:
            assert session.predict(frames[int(number)], task).label == label


def test_a_wrong_task_is_one_line_before_the_first_frame(world):
    with camera(world, "--day", "a-b", "--night", "x-y") as process:
        out, err = process.communicate(timeout=WAIT)
    assert (process.returncode, out) == (1, "")
    assert err == "error: unknown task 'x-y'; available: a-b, a-c, a-d\n"


def unit():
    """Return the sections of the systemd unit."""
    found = configparser.RawConfigParser(strict=False)
    found.read(EXAMPLES / "uda-camera.service")
    return found


def settings(config):
    """Return the values of the unit's command line with a file of settings, and its sources."""
    service = unit()["Service"]
    program, *words = shlex.split(service["ExecStart"])
    assert program == PROGRAM and words[0] == "watch"
    name = service["LoadCredential"].partition(":")[0]
    folder = words[-1].replace("${CREDENTIALS_DIRECTORY}", str(config.parent))
    assert folder == str(config.parent / name)
    context = command.watch.make_context("watch", [*words[1:-1], str(config)])
    by = {name: context.get_parameter_source(name) for name in context.params}
    return context.params, sources_of(context.params, by, context.meta[SOURCES])


def test_the_unit_runs_the_command_with_the_examples_settings():
    values, (door,) = settings(EXAMPLES / "watch.toml")
    assert (door.name, door.where, door.task, door.every) == ("door", "0", "auto", 2)
    assert values["drift"] and values["harvest"] is None
    service = unit()["Service"]
    assert (service["Type"], service["Restart"]) == ("notify", "always")
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    state = f"/var/lib/{service['StateDirectory']}"
    assert all(str(values[name]).startswith(state) for name in ("bundle", "state", "jsonl"))


def test_what_the_settings_leave_out_can_be_taken_in(tmp_path):
    text = (EXAMPLES / "watch.toml").read_text()
    more, count = re.subn(r"^# (?=\[|[a-z]+ = )", "", text, flags=re.MULTILINE)
    (tmp_path / "watch.toml").write_text(more)
    values, (_, yard) = settings(tmp_path / "watch.toml")
    assert count == 7 and yard.task == "a-c"
    assert values["web"] == 8080 and values["metrics"] == "9101" and values["mqtt"]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not here")
def test_systemd_knows_every_line_of_the_unit(tmp_path):
    text = (EXAMPLES / "uda-camera.service").read_text()
    path = tmp_path / "uda-camera.service"
    path.write_text(text.replace(PROGRAM, sys.executable))
    found = subprocess.run(
        ["systemd-analyze", "verify", path], capture_output=True, text=True, timeout=WAIT
    )
    assert (found.returncode, found.stdout + found.stderr) == (0, "")
