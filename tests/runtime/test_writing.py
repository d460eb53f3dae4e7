"""Temporary files: those of a dead process are removed, those of a live one are not."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from runtime.errors import StorageError
from runtime.storage.writing import (
    remove_leftovers,
    replacing,
    scratch_folder,
    sibling_folder,
    write_bytes,
)


def started(work):
    """Start a process that says when it is in the middle of `work`, and waits there."""
    ready = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with work() as path:
                inside = path / "half" if path.is_dir() else path
                inside.write_bytes(b"half")
                os.write(ready[1], b"1")
                time.sleep(60)
        finally:
            os._exit(1)
    os.read(ready[0], 1)
    return child


def kill(child):
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("make", [replacing, sibling_folder])
def test_the_next_writer_removes_what_a_dead_one_left_and_nothing_of_a_live_one(tmp_path, make):
    target = tmp_path / "a.json"
    dead, live = (started(lambda: make(target)) for _ in range(2))
    other = started(lambda: make(tmp_path / "other"))
    kill(other)
    assert len(names(tmp_path)) == 6
    kill(dead)
    try:
        write_bytes(target, b"whole")
        left = names(tmp_path)
        assert len(left) == 5 and "a.json" in left
        assert sorted(name.split(".")[1] for name in left) == ["a", "a", "json", "other", "other"]
        remove_leftovers(tmp_path)
        left = names(tmp_path)
        assert len(left) == 3 and not any("other" in name for name in left)
    finally:
        kill(live)
    write_bytes(target, b"again")
    assert names(tmp_path) == ["a.json"] and target.read_bytes() == b"again"


def test_a_scratch_folder_of_a_dead_process_goes_with_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    kill(started(lambda: scratch_folder("uda-work")))
    assert len(names(tmp_path)) == 2
    with scratch_folder("uda-work") as folder:
        assert folder.parent == tmp_path and names(tmp_path) == sorted(
            [folder.name, f"{folder.stem}.lock"]
        )
    assert not names(tmp_path)


def test_a_scratch_folder_makes_nothing_else(tmp_path):
    """Python's own search for one tries it with a file, which a killed process leaves."""
    code = """
import os, sys
made = []

def hook(event, args):
    if event == "open" and args[2] & os.O_CREAT:
        made.append(args[0])

sys.addaudithook(hook)
from runtime.storage.writing import scratch_folder
with scratch_folder("uda-work"):
    print([name for name in made if "uda-work" not in str(name)])
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert done.stdout == b"[]\n", done.stderr


def test_where_the_disk_has_no_locks_nothing_is_taken_for_a_leftover(tmp_path, monkeypatch):
    kill(started(lambda: replacing(tmp_path / "a")))
    monkeypatch.setitem(sys.modules, "fcntl", None)  # as on Windows
    write_bytes(tmp_path / "a", b"whole")
    assert len(names(tmp_path)) == 3, "the file, and what is left"
    monkeypatch.undo()
    remove_leftovers(tmp_path)
    assert names(tmp_path) == ["a"]


def test_files_of_others_with_similar_names_stay(tmp_path):
    others = [".a.tmp", ".a.0123.lock", ".a.0123456z.lock", "a.01234567.lock", ".a.01234567.tmp"]
    for name in others:
        (tmp_path / name).write_bytes(b"of somebody")
    (tmp_path / ".a.76543210.lock").symlink_to(tmp_path / ".a.tmp")
    write_bytes(tmp_path / "a", b"whole")
    remove_leftovers(tmp_path)
    assert names(tmp_path) == sorted([*others, ".a.76543210.lock", "a"])
    assert all((tmp_path / name).read_bytes() == b"of somebody" for name in others)


def test_an_error_names_the_file_that_was_wanted(tmp_path):
    with pytest.raises(StorageError, match=f"cannot write '{tmp_path}/{'a' * 256}': File name too"):
        write_bytes(tmp_path / ("a" * 256), b"")
    assert not names(tmp_path)


@pytest.mark.parametrize("name", ["a" * 100, "a" * 101, "a" * 241, "a" * 255, "\u00e9" * 127])
def test_every_name_that_the_disk_takes_can_be_written(tmp_path, name):
    path, other = tmp_path / name, f"b{name[1:]}"
    write_bytes(path, b"1")
    write_bytes(path, b"2")
    assert path.read_bytes() == b"2" and names(tmp_path) == [name]
    with sibling_folder(path) as folder:
        (folder / "x").write_bytes(b"3")
    assert names(tmp_path) == [name]
    kill(started(lambda: replacing(path)))
    kill(started(lambda: replacing(tmp_path / other)))
    assert len(names(tmp_path)) == 5
    write_bytes(path, b"4")
    assert len(names(tmp_path)) == 3, "what was left of the other one stays"
    remove_leftovers(tmp_path, other)
    assert names(tmp_path) == [name] and path.read_bytes() == b"4"


def test_what_an_earlier_version_left_of_a_long_name_is_removed(tmp_path):
    for end in ("lock", "tmp"):
        (tmp_path / f".{'a' * 150}.01234567.{end}").write_bytes(b"half")
    write_bytes(tmp_path / ("a" * 150), b"whole")
    assert names(tmp_path) == ["a" * 150]


def test_where_no_temporary_files_can_be_written_a_folder_is_asked_for(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr("runtime.storage.writing._TEMPORARY", ("/proc/nowhere",))
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(name, "")
    with pytest.raises(StorageError, match="choose one with TMPDIR=FOLDER"):
        scratch_folder("x")


@pytest.mark.parametrize("path", ["here", "/proc/here"])
def test_where_nothing_can_be_made_a_write_fails_at_once(path, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(StorageError, match=f"cannot write '{path}': No such file or directory; "):
        write_bytes(Path(path), b"content")
