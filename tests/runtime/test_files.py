import os
import pwd
import tracemalloc
from pathlib import Path

import pytest

from runtime.errors import FormatError, StorageError
from runtime.storage.caches import cache_folder
from runtime.storage.files import read_bytes, storage_errors
from runtime.storage.writing import write_bytes


def test_a_user_without_a_home_folder_is_told_to_name_a_cache(tmp_path, monkeypatch):
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("UDA_CACHE", raising=False)

    def nobody(_):
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", nobody)  # as in a container that runs as any user
    with pytest.raises(
        StorageError, match="this user has no home folder for a cache; .* with UDA_CACHE=FOLDER"
    ):
        cache_folder("UDA_CACHE")
    monkeypatch.setenv("UDA_CACHE", str(tmp_path))
    assert cache_folder("UDA_CACHE") == tmp_path
    monkeypatch.setenv("UDA_CACHE", "~nobody-of-that-name/x")
    with pytest.raises(StorageError, match="no home folder '~nobody-of-that-name' for a cache;"):
        cache_folder("UDA_CACHE")


def test_a_small_file_takes_little_memory_whatever_it_might_have(tmp_path):
    (tmp_path / "f").write_bytes(b"x" * 1000)
    tracemalloc.start()
    try:
        assert read_bytes(tmp_path / "f", 1 << 30) == b"x" * 1000
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("limit, whole", [(999, False), (1000, True)])
def test_a_file_may_have_the_limit_and_no_byte_more(tmp_path, limit, whole):
    (tmp_path / "f").write_bytes(b"x" * 1000)
    if whole:
        assert len(read_bytes(tmp_path / "f", limit)) == 1000
    else:
        with pytest.raises(FormatError, match="larger than the 999 bytes"):
            read_bytes(tmp_path / "f", limit)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("file/new", "File exists; choose another name"),
        ("file/under/new", "Not a directory; choose another name"),
        ("folder", "Is a directory; choose another name"),
        ("x" * 300, "File name too long; choose another name"),
        ("/proc/nowhere/new", "No such file or directory; check the path or choose another folder"),
    ],
)
def test_an_error_of_the_system_has_its_own_remedy(tmp_path, name, message):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError) as caught:
        write_bytes(tmp_path / name, b"new")
    assert str(caught.value) == f"cannot write '{tmp_path / name}': {message}"
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_not_ours_to_write_asks_for_another_one(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="choose another folder or make it writable$"):
        write_bytes(tmp_path / "new", b"new")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full")
def test_only_a_full_disk_asks_for_space(tmp_path):
    with (
        pytest.raises(StorageError, match="the disk is full; free some space or choose another"),
        storage_errors(tmp_path),
    ):
        Path("/dev/full").write_bytes(b"new")


@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_what_is_no_plain_file_is_refused_at_once(tmp_path, kind):
    path = tmp_path / kind
    {"pipe": os.mkfifo, "folder": os.mkdir, "device": lambda p: p.symlink_to("/dev/zero")}[kind](
        path
    )
    with pytest.raises(FormatError, match=f"{kind}.* (not a regular file|Is a directory); "):
        read_bytes(path, 9)


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_file_takes_the_place_of_nothing_but_a_file(tmp_path, kind):
    path = tmp_path / kind
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/null")
    with pytest.raises(StorageError, match="not a regular file; choose another name"):
        write_bytes(path, b"new")
    assert os.listdir(tmp_path) == [kind] and not path.is_file()
