"""A folder that is replaced is there at every moment, also if the process is killed."""

import ctypes
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.storage.exchange import exchange, put_folder

ROOT = Path(__file__).parents[2]
KILLED = """
import sys
from pathlib import Path

from benchmarks._kill_steps import Steps
from runtime.storage.exchange import put_folder

root, kill_at = Path(sys.argv[1]), int(sys.argv[2])
Steps(kill_at, root).watch()
put_folder(root / "new", root / "models" / "a")
"""


@pytest.fixture
def unable(monkeypatch):
    """Let the system's library have no call that exchanges two paths."""
    monkeypatch.setattr(ctypes, "CDLL", lambda *arguments, **options: object())


def folder(path: Path, content: str) -> Path:
    path.mkdir(parents=True)
    (path / "file").write_text(content)
    return path


def can_exchange(tmp_path: Path) -> bool:
    return exchange(folder(tmp_path / "x", "x"), folder(tmp_path / "y", "y"))


def test_two_folders_change_places(tmp_path):
    one, other = folder(tmp_path / "one", "1"), folder(tmp_path / "other", "2")
    if not exchange(one, other):
        pytest.skip("this file system exchanges no folders")
    assert (one / "file").read_text() == "2" and (other / "file").read_text() == "1"
    with pytest.raises(FileNotFoundError, match="one"):
        exchange(one, tmp_path / "missing")
    assert (one / "file").read_text() == "2"


@pytest.mark.parametrize("able", [True, False])
def test_the_former_folder_goes_where_the_new_one_was_made(tmp_path, request, able):
    if not able:
        request.getfixturevalue("unable")
    path = tmp_path / "models" / "a"
    path.parent.mkdir()
    put_folder(folder(tmp_path / "first", "1"), path)
    assert (path / "file").read_text() == "1" and not (tmp_path / "first").exists()
    put_folder(folder(tmp_path / "second", "2"), path)
    assert (path / "file").read_text() == "2"
    assert (tmp_path / "second" / "file").read_text() == "1"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["models", "second"]


@pytest.mark.usefixtures("unable")
def test_what_cannot_be_put_in_place_leaves_the_former_folder(tmp_path):
    path = folder(tmp_path / "a", "1")
    with pytest.raises(FileNotFoundError):
        put_folder(tmp_path / "missing", path)
    assert (path / "file").read_text() == "1"


def test_a_kill_at_any_step_leaves_the_former_folder_or_the_new_one(tmp_path):
    if not can_exchange(tmp_path):
        pytest.skip("this file system exchanges no folders")
    path, found = tmp_path / "models" / "a", []
    for kill_at in range(10):
        shutil.rmtree(tmp_path / "models", ignore_errors=True)
        shutil.rmtree(tmp_path / "new", ignore_errors=True)
        folder(path, "old")
        folder(tmp_path / "new", "new")
        done = subprocess.run([sys.executable, "-c", KILLED, tmp_path, str(kill_at)], cwd=ROOT)
        found.append((path / "file").read_text())
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL
    assert found == ["old", "new"], "one step, and nothing between"
