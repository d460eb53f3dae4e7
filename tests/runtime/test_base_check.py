"""A base that was verified at an earlier start is used at once, and verified in the background."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import runtime
from runtime.bundles import base_check
from runtime.errors import ConfigError, FormatError
from runtime.storage import stamps

FRAME = np.zeros((20, 20, 3), np.uint8)


@pytest.fixture(autouse=True)
def every_base(monkeypatch, tmp_path):
    """Stamps for bases of any size, and at once after they were written."""
    monkeypatch.setattr(base_check, "SMALL", 0)
    monkeypatch.setattr(base_check, "DELAY", 0)
    monkeypatch.setattr(stamps, "_SETTLED_NS", 0)
    monkeypatch.setenv("UDA_RUNTIME_CACHE", str(tmp_path / "cache"))


def started(path: Path, **settings: object) -> runtime.Session:
    """Return a session once its work in the background has ended."""
    session = runtime.Session.open(path, threads=1, **settings)
    worker = session.bundle.base_check and session.bundle.base_check._worker
    if worker:
        worker.join()
    return session


def stamp_of(path: Path) -> Path:
    (found,) = (path.parent / "cache" / "verified").glob("*.json")
    return found


def base_of(path: Path) -> Path:
    (found,) = (path / "base").iterdir()
    return found


def rot(path: Path) -> None:
    """Change a bit of the base as a failing disk does: the file system sees no change."""
    base, stamp = base_of(path), stamp_of(path)
    content = bytearray(base.read_bytes())
    content[-1] ^= 1
    base.write_bytes(content)
    found = os.stat(base)
    described = json.loads(stamp.read_text())
    described |= {"mtime_ns": found.st_mtime_ns, "ctime_ns": found.st_ctime_ns}
    stamp.write_text(json.dumps(described))


def test_a_base_that_rots_is_used_at_once_and_the_next_call_says_so(world):
    started(world.path).close()
    rot(world.path)
    with started(world.path) as session:  # not verified before it was used
        for call in (lambda: session.switch("a-b"), lambda: session.predict(FRAME, "a-c")):
            with pytest.raises(FormatError, match="was altered: its digest does not match"):
                call()
    with pytest.raises(FormatError, match="was altered"):  # its stamp is gone
        runtime.Session.open(world.path)


def test_a_sound_base_goes_on_after_its_check_in_the_background(world):
    started(world.path).close()
    before = stamp_of(world.path).read_bytes()
    with started(world.path) as session:
        check = session.bundle.base_check
        assert check._verified is None and check._worker is not None  # believed, then verified
        expected = runtime.Session.open(world.path, verify="full").predict(FRAME, "a-b").logits
        np.testing.assert_array_equal(session.predict(FRAME, "a-b").logits, expected)
    assert stamp_of(world.path).read_bytes() == before


def test_a_check_that_was_not_finished_is_made_before_the_next_use(world, monkeypatch):
    started(world.path).close()
    monkeypatch.setattr(base_check, "DELAY", 3600)
    with runtime.Session.open(world.path) as session:
        assert session.bundle.base_check._verified is None
    assert not list((world.path.parent / "cache" / "verified").glob("*.json"))
    with started(world.path) as session:
        assert session.bundle.base_check._verified is not None


def test_a_folder_of_stamps_with_other_files_is_no_error(world):
    started(world.path).close()
    stamp = stamp_of(world.path)
    stamp.with_name(f"{stamp.stem}.a.b.c.d").touch()
    with started(world.path) as session:
        assert session.bundle.base_check._verified is not None


def test_full_verification_refuses_what_a_stamp_would_let_pass(world):
    started(world.path).close()
    rot(world.path)
    with pytest.raises(FormatError, match="was altered"):
        runtime.Session.open(world.path, verify="full")


@pytest.mark.parametrize("restored", [False, True])
def test_a_base_that_was_written_to_is_verified_before_it_is_used(world, restored):
    started(world.path).close()
    base = base_of(world.path)
    times = os.stat(base)
    content = bytearray(base.read_bytes())
    content[-1] ^= 1
    base.write_bytes(content)
    if restored:  # as `touch -r` does; the time of the change cannot be set
        os.utime(base, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(FormatError, match="was altered"):
        runtime.Session.open(world.path)


def test_a_copy_in_its_place_is_verified(world):
    started(world.path).close()
    base = base_of(world.path)
    content = base.read_bytes()
    base.unlink()
    base.write_bytes(content)
    with started(world.path) as session:
        assert session.bundle.base_check._verified is not None


def test_after_a_crash_of_the_machine_the_base_is_verified(world):
    first = started(world.path)
    (marker,) = (world.path.parent / "cache" / "verified").glob("*.*.*.*")
    name, _, process, token = marker.name.split(".")
    first.close()
    assert not marker.exists()
    earlier = marker.with_name(f"{name}.11111111-2222-3333-4444-555555555555.{process}.{token}")
    earlier.touch()
    rot(world.path)
    with pytest.raises(FormatError, match="was altered"):
        runtime.Session.open(world.path)
    assert not earlier.exists()


@pytest.mark.parametrize("checked", [True, False])
def test_a_process_that_was_killed_had_to_have_verified_the_base(world, checked):
    first = started(world.path)
    (marker,) = (world.path.parent / "cache" / "verified").glob("*.*.*.*")
    first.close()
    name, boot, _, token = marker.name.split(".")
    dead = marker.with_name(f"{name}.{boot}.99999999.{token}")
    dead.write_bytes(b"checked" if checked else b"")
    with started(world.path) as session:
        assert (session.bundle.base_check._verified is None) == checked
    assert not dead.exists()


def test_a_process_that_is_killed_before_it_verified_the_base_makes_the_next_do_so(world):
    started(world.path).close()
    code = (
        "import os, sys, time, pathlib, runtime\n"
        "from runtime.bundles import base_check\n"
        "base_check.SMALL, base_check.DELAY = 0, 3600\n"
        "session = runtime.Session.open(sys.argv[1], threads=1)\n"
        "assert session.bundle.base_check._verified is None\n"
        "while not list(pathlib.Path(sys.argv[2]).glob('*.*.*.*')):\n    time.sleep(0.01)\n"
        "os._exit(9)\n"
    )
    folder = stamp_of(world.path).parent
    killed = subprocess.run([sys.executable, "-c", code, str(world.path), str(folder)])
    assert killed.returncode == 9
    rot(world.path)
    for _ in range(2):  # a start that fails is no reason to believe the stamp either
        with pytest.raises(FormatError, match="was altered"):
            runtime.Session.open(world.path)


@pytest.mark.parametrize("rotten", [False, True])
@pytest.mark.parametrize("replaced", [False, True])
def test_what_is_verified_is_what_was_read_wherever_it_lies_by_then(
    world, monkeypatch, replaced, rotten
):
    started(world.path).close()
    if rotten:
        rot(world.path)
    monkeypatch.setattr(base_check, "DELAY", 0.5)
    with runtime.Session.open(world.path) as session:
        check = session.bundle.base_check
        base = base_of(world.path)
        if replaced:
            other = base.with_name("other")
            other.write_bytes(b"another export")
            other.replace(base)
        else:
            base.unlink()
        check._worker.join()
        if rotten:
            with pytest.raises(FormatError, match="was altered"):
                session.predict(FRAME, "a-b")
        else:
            session.predict(FRAME, "a-b")
        assert check._file.closed


def test_a_stamp_that_could_not_be_removed_is_not_believed(world, monkeypatch):
    """Else a program that ends soon would never find damage."""
    started(world.path).close()
    # Of a mount that is read-only, `access` says so even to root.
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    with started(world.path) as session:
        assert session.bundle.base_check._verified is not None


def test_a_stamp_that_others_could_have_written_is_not_believed(world):
    started(world.path).close()
    rot(world.path)
    stamp_of(world.path).parent.chmod(0o777)
    with pytest.raises(FormatError, match="was altered"):
        runtime.Session.open(world.path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"9" * 5000])
def test_a_damaged_stamp_is_not_believed(world, content):
    started(world.path).close()
    stamp_of(world.path).write_bytes(content)
    with started(world.path) as session:
        assert session.bundle.base_check._verified is not None


def test_a_base_that_was_just_written_gets_no_stamp(world, monkeypatch):
    """A change in the same tick of the clock would leave its time as it is."""
    monkeypatch.setattr(stamps, "_SETTLED_NS", 3_600_000_000_000)
    started(world.path).close()
    assert not list((world.path.parent / "cache").glob("verified/*.json"))


def test_without_a_place_for_stamps_the_base_is_verified(world, monkeypatch):
    monkeypatch.setenv("UDA_RUNTIME_CACHE", "/proc/none")
    for _ in range(2):
        with started(world.path) as session:
            assert session.bundle.base_check._verified is not None


@pytest.mark.parametrize("strategy", ["patch", "engines"])
def test_a_pool_uses_a_verified_base_at_once_too(world, strategy):
    started(world.path).close()
    rot(world.path)
    with runtime.SessionPool.open(world.path, sessions=2, strategy=strategy) as pool:
        deadline = time.monotonic() + 60
        with pytest.raises(FormatError, match="was altered"):
            while time.monotonic() < deadline:
                pool.predict(FRAME, "a-b")


def test_what_opens_to_no_end_leaves_nothing_running(world):
    started(world.path).close()
    (world.path / "graphs").rename(world.path / "moved")
    with pytest.raises(FormatError):
        runtime.Session.open(world.path)
    assert not list((world.path.parent / "cache").glob("verified/*.*.*.*"))


def test_another_way_to_verify_is_refused(world):
    with pytest.raises(ConfigError, match="verify must be 'changed' or 'full'; found 'never'"):
        runtime.Session.open(world.path, verify="never")
