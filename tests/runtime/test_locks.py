"""One process at a time, and what happens where there are no locks."""

import os
import signal
import socket
import sys
import threading
import time

import pytest

from runtime.errors import ConfigError, StorageError
from runtime.storage.locks import exclusive
from runtime.storage.writing import remove_leftovers, sibling_folder


def test_a_lock_is_held_by_one_process_and_ends_with_it(tmp_path):
    path = tmp_path / "run" / "lock"
    ready, ended = os.pipe(), []
    child = os.fork()
    if child == 0:
        with exclusive(path):
            os.write(ready[1], b"1")
            time.sleep(60)
    os.read(ready[0], 1)
    assert path.read_text().split()[0] == str(child)

    def wait():
        with exclusive(path):
            ended.append(time.monotonic())

    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(0.2)
    assert not ended
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    waiter.join(10)
    assert len(ended) == 1 and path.read_text().split()[0] == str(os.getpid())


def test_a_lock_ends_with_its_process_though_one_forked_from_it_lives_on(tmp_path):
    (ready, say), (left, leave) = os.pipe(), os.pipe()
    holder = os.fork()
    if holder == 0:
        with exclusive(tmp_path / "lock"), sibling_folder(tmp_path / "out"):
            if os.fork():
                time.sleep(60)
            os.close(leave)
            os.write(say, b"1")
            os.read(left, 1)  # until the test ends
            os._exit(0)
    os.read(ready, 1)
    with pytest.raises(ConfigError, match=f"process {holder} on this machine"):
        with exclusive(tmp_path / "lock", busy=ConfigError):
            pass
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    with exclusive(tmp_path / "lock", busy=ConfigError):
        remove_leftovers(tmp_path, "out")
    assert os.listdir(tmp_path) == ["lock"]
    for end in (ready, say, left, leave):
        os.close(end)


def test_a_forked_process_that_leaves_a_block_leaves_the_lock_alone(tmp_path):
    path = tmp_path / "lock"
    try:
        with exclusive(path, keep=False):
            if (child := os.fork()) == 0:
                raise InterruptedError
            assert os.waitpid(child, 0)[1] == 0
            with pytest.raises(ConfigError, match=f"process {os.getpid()} on this machine"):
                with exclusive(path, busy=ConfigError):
                    pass
    except InterruptedError:
        os._exit(0)


def test_without_locks_optional_ones_are_not_held_and_required_ones_an_error(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)  # as on Windows
    with exclusive(tmp_path / "a", required=False) as held:
        assert not held
    with pytest.raises(StorageError, match="this system has no file locks; work on Linux or macOS"):
        with exclusive(tmp_path / "b"):
            pass
    monkeypatch.undo()
    with exclusive(tmp_path / "a", required=False) as held:
        assert held


def test_a_lock_that_is_removed_with_its_holder_is_still_one_at_a_time(tmp_path):
    path, inside, seen = tmp_path / "deep" / "lock", [], []

    def work():
        for _ in range(30):
            with exclusive(path, keep=False):
                inside.append(1)
                seen.append(len(inside))
                time.sleep(0.0002)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert seen == [1] * 180
    assert list(path.parent.iterdir()) == []


def test_a_lock_that_is_a_link_leaves_the_file_behind_it_alone(tmp_path):
    (tmp_path / "thesis").write_text("years of work")
    (tmp_path / "lock").symlink_to(tmp_path / "thesis")
    with pytest.raises(StorageError, match="cannot write"):
        with exclusive(tmp_path / "lock"):
            pass
    assert (tmp_path / "thesis").read_text() == "years of work"


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (None, "process {pid} on this machine"),
        (b"12 camera-7\n", "process 12 on 'camera-7'"),
        (b"", "another process"),
        (b"\xff\xfe", "another process"),
        (b"12 \x1b[2Jcamera", "another process"),
        (b"\xd9\xa1 camera", "another process"),
        (b"x" * 500, "another process"),
        (f"999999999 {socket.gethostname()}".encode(), "another process"),
        (b"9" * 150 + b" camera", "another process"),
    ],
)
def test_who_does_not_wait_is_told_who_holds_the_lock(tmp_path, content, named):
    path = tmp_path / "lock"
    with exclusive(path):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ConfigError, match="^busy: ") as error:
            with exclusive(
                path, required=False, busy=lambda holder: ConfigError(f"busy: {holder}")
            ):
                pass
    assert str(error.value) == f"busy: {named.format(pid=os.getpid())}"
    with exclusive(path, busy=lambda holder: ConfigError(holder)) as held:
        assert held


def test_of_many_that_do_not_wait_one_gets_the_lock(tmp_path):
    path, start, seen = tmp_path / "lock", threading.Barrier(8), []

    def work():
        start.wait()
        try:
            with exclusive(path, keep=False, busy=lambda holder: ConfigError(holder)):
                seen.append("held")
                time.sleep(0.3)
        except ConfigError:
            seen.append("refused")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(seen) == ["held", *["refused"] * 7] and not path.exists()
