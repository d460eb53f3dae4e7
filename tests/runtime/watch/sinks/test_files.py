"""Lines of observations: whole ones, whatever happens to the disk, and none lost by a restart."""

import csv
import json
import os
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from runtime.console import STDOUT
from runtime.errors import ConfigError, StorageError
from runtime.monitoring.drift import Drift
from runtime.watch.observation import Smoothed
from runtime.watch.sinks import backlog, files, trouble
from runtime.watch.sinks.files import Csv, JsonLines
from tests.runtime.watch.observed import Program, failure, observation, until
from tests.users import as_stranger, in_child, needs_root

KINDS = {"a.jsonl": JsonLines, "a.csv": Csv}


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


def started(sink):
    sink.start(Program())
    return sink


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


def rows(path):
    """Return the numbers of the frames in a file of either kind, every line of which is whole."""
    content = path.read_text()
    assert content.endswith("\n")
    if content.startswith("{"):
        return [json.loads(line)["frame"] for line in content.splitlines()]
    found = list(csv.DictReader(content.splitlines()))
    assert all(None not in row and None not in row.values() for row in found)
    return [int(row["frame"]) for row in found]


def test_lines_hold_what_was_observed(tmp_path):
    drift = Drift("d-n", "steady", 0.1, 40, 0)
    seen = observation(3, smoothed=Smoothed("cup", 0.5, 4), drift=drift)
    for name, kind in KINDS.items():
        sink = started(kind(tmp_path / name, 2))
        sink.take(seen)
        sink.take(failure(4))
        sink.close()
        sink.close()
        assert sink.lost == 0
    first, second = map(json.loads, lines(tmp_path / "a.jsonl"))
    assert first == json.loads(json.dumps(seen.to_dict(2)))
    assert second == {
        "source": "gate",
        "frame": 4,
        "time": 1800000000.0,
        "error": "the frame is broken",
    }
    with (tmp_path / "a.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert table[0]["label"] == "key" and table[0]["label_2"] == "cup"
    assert float(table[0]["score"]) == first["score"] and table[0]["task"] == "d-n"
    assert (table[0]["time"], table[0]["ms"], table[0]["waited_ms"]) == (
        "1800000003.25",
        "12.5",
        "1.5",
    )
    assert (table[0]["smoothed_label"], table[0]["smoothed_frames"]) == ("cup", "4")
    assert table[0]["drift"] == "steady" and table[0]["error"] == ""
    assert table[1]["error"] == "the frame is broken" and table[1]["label"] == ""


def test_a_restart_goes_on_with_the_file(tmp_path, kind):
    path = tmp_path / "new/out"
    for run in range(3):
        sink = started(kind(path))
        for number in range(2):
            sink.take(observation(2 * run + number))
        sink.close()
    assert rows(path) == list(range(6))


def test_a_run_without_frames_leaves_no_file(tmp_path, kind):
    started(kind(tmp_path / "out")).close()
    assert os.listdir(tmp_path) == []


def test_a_line_that_a_power_cut_left_unfinished_is_removed_and_said(tmp_path, kind, capfd):
    path = tmp_path / "out"
    sink = started(kind(path))
    sink.take(observation(0))
    sink.close()
    whole = path.read_bytes()
    path.write_bytes(whole + whole.splitlines(True)[-1][:20])
    sink = started(kind(path))
    sink.take(observation(1))
    sink.close()
    assert rows(path) == [0, 1] and path.read_bytes().startswith(whole)
    assert "removed an unfinished line of 20 bytes at the end of" in capfd.readouterr().err


@pytest.mark.parametrize(
    "content",
    [b"my notes", b"my notes\n", b"source,label\n", b'{"image": "a.png"}\n', b"\0\0\0"],
)
def test_a_file_of_another_kind_is_refused_and_stays_as_it_is(tmp_path, kind, content):
    path = tmp_path / "out"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="choose another file"):
        kind(path).start(Program())
    assert path.read_bytes() == content


def test_csv_with_other_columns_is_refused(tmp_path):
    sink = started(Csv(tmp_path / "out"))
    sink.take(observation())
    sink.close()
    with pytest.raises(ConfigError, match="begins with 'source,.*, expected 'source,.*label_3"):
        Csv(tmp_path / "out", 3).start(Program())


def test_what_is_no_file_is_refused(tmp_path, kind):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, "/dev/null"):
        with pytest.raises(StorageError, match="choose another name"):
            kind(Path(path)).start(Program())


def test_two_processes_do_not_write_to_one_file(tmp_path, kind):
    sink = started(kind(tmp_path / "out"))
    with pytest.raises(StorageError, match="another process writes to"):
        kind(tmp_path / "out").start(Program())
    sink.close()
    started(kind(tmp_path / "out")).close()


@needs_root
def test_a_folder_without_permission_is_an_error_at_the_start(tmp_path, kind):
    (tmp_path / "closed").mkdir(0o700)
    error = as_stranger(lambda: kind(tmp_path / "closed/out").start(Program()))
    assert error.startswith("StorageError: ") and "Permission denied" in error


def test_a_full_disk_stops_nothing_and_lines_are_written_when_there_is_room(
    tmp_path, kind, monkeypatch, capfd
):
    """A file that may not grow is refused as on a full disk; the limit is that of the process."""
    monkeypatch.setattr(backlog, "SECOND", 0.02)
    path = tmp_path / "out"
    error = in_child(lambda: None, lambda: _fill(path, kind))
    assert error == ""
    assert rows(path) == list(range(40))
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 2  # one line while it fails, however many attempts; one at the end
    assert "File too large" in said[0] and "0 lines lost so far" in said[0]
    assert "goes on; 0 lines lost so far" in said[1]


def _fill(path, kind):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    sink = started(kind(path))
    for number in range(20):
        sink.take(observation(number))
    until(lambda: len(lines(path)) >= 20)
    limit = path.stat().st_size + 30  # in the middle of a line
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    for number in range(20, 40):
        sink.take(observation(number))
    until(lambda: sink._trouble.failing)
    time.sleep(0.1)
    assert path.read_text().endswith("\n") and path.stat().st_size == limit - 30
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    until(lambda: not sink._trouble.failing)
    sink.close()
    assert sink.lost == 0


def test_lines_that_wait_too_long_are_lost_and_counted(tmp_path, kind, monkeypatch, capfd):
    monkeypatch.setattr(backlog, "SECOND", 0.02)
    monkeypatch.setattr(files, "ROOM", 10)
    (tmp_path / "log").mkdir()
    sink = started(kind(tmp_path / "log/out"))
    sink.take(observation(0))
    until(lambda: (tmp_path / "log/out").stat().st_size)
    shutil.rmtree(tmp_path / "log")
    (tmp_path / "log").write_text("in the way")
    sink.take(observation(1))
    until(lambda: sink._trouble.failing)
    for number in range(2, 50):
        sink.take(observation(number))
    assert sink.lost == 38  # one is being written, and ten wait
    (tmp_path / "log").unlink()
    until(lambda: not sink._trouble.failing)
    sink.close()
    assert rows(tmp_path / "log/out") == [1, *range(40, 50)]
    said = capfd.readouterr().err.splitlines()
    assert "choose another name; 0 lines lost so far" in said[0] and len(said) == 2
    assert "goes on; 38 lines lost so far" in said[1]


def test_a_line_a_minute_and_no_more(capfd, monkeypatch):
    monkeypatch.setattr(trouble, "MINUTE", 0.2)
    found = trouble.Trouble("--csv", "line")
    for _ in range(50):
        found.failed(OSError("no room"))
        found.lose()
        found.say()
    time.sleep(0.2)
    found.well()
    found.say()
    found.say()
    said = capfd.readouterr().err.splitlines()
    assert said == [
        "warning: --csv: no room; 1 line lost so far",
        "--csv: goes on; 50 lines lost so far",
    ]


def test_a_file_that_is_rotated_is_begun_anew(tmp_path, kind):
    path = tmp_path / "out"
    sink = started(kind(path))
    sink.take(observation(0))
    until(lambda: path.stat().st_size)
    path.rename(tmp_path / "out.1")
    sink.take(observation(1))
    until(lambda: path.exists() and path.stat().st_size)
    shutil.copy(path, tmp_path / "out.2")
    os.truncate(path, 0)  # as logrotate's `copytruncate` does
    sink.take(observation(2))
    sink.close()
    assert [rows(tmp_path / name) for name in ("out.1", "out.2", "out")] == [[0], [1], [2]]


def _mounted(folder, options="size=64k"):
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture
def drive(tmp_path):
    folder = tmp_path / "drive"
    folder.mkdir()
    if shutil.which("mount") is None or not _mounted(folder):
        pytest.skip("this user cannot mount a drive")
    yield folder
    while subprocess.run(["umount", "-l", str(folder)], capture_output=True).returncode == 0:
        pass


def test_a_drive_that_is_full_and_then_gone_is_waited_for(drive, kind, monkeypatch, capfd):
    monkeypatch.setattr(backlog, "SECOND", 0.02)
    monkeypatch.setattr(trouble, "MINUTE", 0.0)
    path = drive / "out"
    sink = started(kind(path))
    sink.take(observation(0))
    until(lambda: path.stat().st_size)
    filler = os.open(drive / "filler", os.O_WRONLY | os.O_CREAT)
    with pytest.raises(OSError, match="No space"):
        while True:
            os.write(filler, b"x" * 4096)
    os.close(filler)
    count = 1
    while not sink._trouble.failing:
        sink.take(observation(count))
        count += 1
        time.sleep(0.001)
    assert path.read_text().endswith("\n")
    (drive / "filler").unlink()
    until(lambda: not sink._trouble.failing)
    subprocess.run(["umount", "-l", str(drive)], check=True)
    sink.take(observation(count))
    until(lambda: sink._trouble.failing)
    time.sleep(0.1)
    assert os.listdir(drive) == []  # nothing is written where the drive was
    assert _mounted(drive)
    until(lambda: not sink._trouble.failing)
    sink.close()
    assert rows(path) == [count]
    said = capfd.readouterr().err
    assert "the disk is full" in said and "is not mounted any more; mount it again" in said


def test_a_read_only_drive_is_an_error_at_the_start(drive, kind):
    subprocess.run(["mount", "-o", "remount,ro", str(drive)], check=True)
    with pytest.raises(StorageError, match="Read-only file system; choose another folder"):
        kind(drive / "out").start(Program())


def test_closing_with_a_disk_that_takes_nothing_says_what_is_lost(tmp_path, kind, capfd):
    sink = started(kind(tmp_path / "out"))
    sink.take(observation(0))
    until(lambda: lines(tmp_path / "out"))
    (tmp_path / "out").unlink()
    (tmp_path / "out").mkdir()
    for number in range(1, 6):
        sink.take(observation(number))
    before = time.monotonic()
    sink.close()
    assert time.monotonic() - before < 10
    assert sink.lost == 5
    assert "5 lines lost so far" in capfd.readouterr().err.splitlines()[-1]


def test_a_reader_of_the_standard_output_that_stops_makes_nobody_wait(monkeypatch, capfd):
    monkeypatch.setattr(backlog, "SECOND", 0.02)
    monkeypatch.setattr(files, "_PATIENCE", 0.02)
    reading, writing = os.pipe()
    with open(writing, "w") as pipe, monkeypatch.context() as patch:
        patch.setattr("sys.stdout", pipe)
        sink = started(JsonLines(STDOUT))
        count = 0
        while not sink._trouble.failing:
            sink.take(observation(count))
            count += 1
            time.sleep(0.0001)
        text = b""
        while f'"frame": {count - 1},'.encode() not in text:
            text += os.read(reading, 4096)  # the last line comes although there was no room for it
        assert not sink.lost
        while not sink._trouble.failing:
            sink.take(observation(count))
            count += 1
            time.sleep(0.0001)
        sink.close()
        assert sink.lost > 0
    os.close(reading)
    said = capfd.readouterr().err.splitlines()
    assert "nobody reads the standard output" in said[0]
    assert f"{sink.lost} lines lost so far" in said[-1] or sink.lost == 1


def test_dash_prints_lines(capfd):
    sink = started(Csv(STDOUT))
    for number in range(2):
        sink.take(observation(number))
    sink.close()
    printed = capfd.readouterr().out.splitlines()
    assert [row["frame"] for row in csv.DictReader(printed)] == ["0", "1"]
