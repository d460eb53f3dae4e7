"""`uda-runtime watch` as people and systemd run it: in a process of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from runtime.bundles.install import install
from runtime.watch.signals import Signals
from tests.runtime.conftest import _make_world
from tests.runtime.helpers import newer, under
from tests.runtime.watch.collecting import WAIT, video


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return _make_world(tmp_path_factory.mktemp("world") / "toy.bundle")


@contextmanager
def watching(world, *words, **more):
    command = [sys.executable, "-m", "runtime", "watch", str(world.path), *map(str, words)]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, text=True, **(pipes | more))
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def until(lines, true):
    """Read lines until a function of one is true."""
    assert any(true(line) for line in lines), "it never came"


def predicting(process):
    """Wait until a source has a prediction."""
    until(process.stdout, lambda line: "; task a-" in line)


def finish(process):
    """Return what it has printed since, its errors, and the counts of each source."""
    out, err = process.communicate(timeout=WAIT)
    text = out if "captured  predicted" in out else err
    head, _, *rows = text[text.index("source  ") :].splitlines()
    names = head.replace(" ms", "_ms").split()
    found = {}
    for row in rows:
        cells = row.split()
        if len(cells) == len(names):
            found[cells[0]] = {k: v for k, v in zip(names[1:], cells[1:], strict=True)}
    for each in found.values():
        counts = {k: int(v) for k, v in each.items() if not k.endswith("_ms")}
        parts = ("predicted", "failed", "skipped", "dropped")
        assert counts["captured"] == sum(counts[part] for part in parts)
        each.update(counts)
    return out, err, found


def test_sources_of_a_file_each_have_their_task_and_the_program_ends_with_them(shared, tmp_path):
    one, two = video(tmp_path / "one.avi", 30), video(tmp_path / "two.avi", 20, seed=1)
    config = tmp_path / "watch.toml"
    config.write_text(f"""
        jsonl = "{tmp_path / "out.jsonl"}"
        smooth = 4
        fast = true
        [sources.door]
        where = "{one}"
        task = "a-b"
        [sources."yard_2.x"]
        where = "{two}"
        task = "a-d"
        every = 2
        smooth = 1
    """)
    # No home and no temporary folder: nothing but the output is written.
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
    with watching(shared, "--config", config, env=environment) as process:
        _, err, found = finish(process)
    assert process.returncode == 0 and err == ""
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    door, yard = ([line for line in lines if line["source"] == name] for name in found)
    assert [line["frame"] for line in door] == list(range(30))
    assert [line["frame"] for line in yard] == list(range(0, 20, 2))
    assert {line["task"] for line in door} == {"a-b"} and "smoothed" in door[0]
    assert {line["task"] for line in yard} == {"a-d"} and "smoothed" not in yard[0]
    assert list(found) == ["door", "yard_2.x"]
    assert (found["door"]["predicted"], found["door"]["p50_ms"] > "0") == (30, True)
    assert (found["yard_2.x"]["captured"], found["yard_2.x"]["skipped"]) == (20, 10)


def test_sigterm_ends_it_in_time_also_while_a_camera_stalls(shared):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and says nothing
        where = f"http://127.0.0.1:{silent.getsockname()[1]}/camera"
        sources = ("--source", f"door={where}", "--demo", "--task", "a-b")
        with watching(shared, *sources) as process:
            silent.settimeout(WAIT)
            with silent.accept()[0]:
                predicting(process)
                began = time.monotonic()
                process.send_signal(signal.SIGTERM)
                _, _, found = finish(process)
                assert time.monotonic() - began < 10, "two seconds on a quiet machine"
    assert process.returncode == 0
    assert found["door"]["captured"] == 0 and found["demo"]["predicted"] > 0


def test_ctrl_c_ends_it_with_its_counts_and_the_status_of_ctrl_c(shared, tmp_path):
    csv = tmp_path / "out.csv"
    words = ("--demo", "--task", "a-b", "--sessions", 2, "--csv", csv)
    with watching(shared, *words) as process:
        predicting(process)
        process.send_signal(signal.SIGINT)
        _, err, found = finish(process)
    assert process.returncode == 130 and err == "error: interrupted\n"
    assert found["demo"]["predicted"] == len(csv.read_text().splitlines()) - 1 > 0


def test_on_sighup_it_takes_over_tasks_and_says_which(world, write_task):
    file = write_task(newer(under(world.tasks["a-c"], "a-new")))
    with watching(world, "--demo", "--task", "a-b") as process:
        predicting(process)
        process.send_signal(signal.SIGHUP)
        text = process.stderr.readline()
        assert text == "tasks changed: nothing; now a-b, a-c, a-d\n"
        install(world.path, file)
        assert process.stderr.readline() == "tasks changed: a-new; now a-b, a-c, a-d, a-new\n"
        process.send_signal(signal.SIGTERM)
        finish(process)
    assert process.returncode == 0


def test_sighup_while_it_starts_does_not_end_it(shared):
    code = (
        "import os, signal; from runtime.commands import watch; from runtime.cli import main\n"
        "opened = watch._open\n"
        "def opens(*given): os.kill(os.getpid(), signal.SIGHUP); return opened(*given)\n"
        "watch._open = opens; main()"
    )
    words = ["watch", str(shared.path), "--demo", "--task", "a-b"]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code, *words], text=True, **pipes) as process:
        predicting(process)
        process.terminate()
        assert finish(process)[2]["demo"]["predicted"] and process.returncode == 0


def test_a_terminal_that_is_closed_ends_it(shared):
    main, terminal = os.openpty()
    with watching(shared, "--demo", "--task", "a-b", stderr=terminal) as process:
        predicting(process)
        os.close(terminal)
        os.close(main)
        process.send_signal(signal.SIGHUP)  # as the system does to the terminal's own process
        assert process.wait(WAIT) == 128 + signal.SIGHUP


def test_where_there_is_no_sighup_other_signals_are_heard(monkeypatch):
    monkeypatch.delattr(signal, "SIGHUP")
    before = signal.getsignal(signal.SIGTERM)
    with Signals().taken() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        signals.wait(WAIT)
        assert signals.stop == signal.SIGTERM and not signals.refresh()
    assert signal.getsignal(signal.SIGTERM) == before


def test_systemd_hears_that_it_is_ready_alive_and_ending(shared, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
        link.bind(str(tmp_path / "notify"))
        link.settimeout(WAIT)
        variables = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"}
        words = ("--demo", "--task", "a-b")
        with watching(shared, *words, env={**os.environ, **variables}) as process:
            assert link.recv(9999).startswith(b"READY=1\nSTATUS=demo ")
            until(
                iter(lambda: link.recv(9999), b""),
                lambda text: b"STATUS=demo running, " in text and text.endswith(b"\nWATCHDOG=1"),
            )
            process.send_signal(signal.SIGTERM)
            finish(process)
        while (text := link.recv(9999)) != b"STOPPING=1":
            assert text.startswith(b"STATUS=")


def test_when_nobody_reads_its_only_output_it_ends(shared):
    with watching(shared, "--demo", "--task", "a-b", "--jsonl", "-") as process:
        assert json.loads(process.stdout.readline())["source"] == "demo"
        process.stdout.close()
        assert process.wait(WAIT) == 0


def test_without_a_standard_output_it_goes_on(shared, tmp_path):
    words = ("--demo", "--task", "a-b", "--jsonl", tmp_path / "out")
    with watching(shared, *words) as process:
        process.stdout.close()
        while not (tmp_path / "out").exists() or (tmp_path / "out").read_text().count("\n") < 50:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT) == 0


def test_a_video_that_is_cut_short_is_an_error_after_what_was_read(shared, tmp_path):
    path = tmp_path / "cut.avi"
    video(path, 60)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with watching(shared, "--source", f"door={path}", "--task", "a-b", "--fast") as process:
        _, err, found = finish(process)
    assert process.returncode == 1 and found["door"]["predicted"] > 0
    assert err.splitlines()[-1].startswith("error: source 'door': ")
