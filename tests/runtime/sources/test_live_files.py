"""Video files, folders and the drawn street as live sources, and the queue of their frames."""

from __future__ import annotations

import os
import shutil
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime.errors import ConfigError, DataError
from runtime.frames.preprocess import read_image
from runtime.sources import open_inputs
from runtime.sources.base import Input
from runtime.sources.live import folder as folders
from runtime.sources.live.base import LiveFrame, Settings
from runtime.sources.live.camera import Camera
from runtime.sources.live.demo import RATE
from runtime.sources.live.latest import Latest
from runtime.sources.live.street import SECONDS, Street
from tests.runtime.sources.live import film, rest, take, until

FAST = Settings(fast=True)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return film(tmp_path_factory.mktemp("clip") / "clip.avi", 60)


@pytest.fixture
def quick(monkeypatch) -> None:
    """Look into folders more often."""
    monkeypatch.setattr(folders, "SCAN", 0.05)


def frame(number: int) -> LiveFrame:
    return LiveFrame(np.zeros((1, 1, 3), np.uint8), number, 0.0, 0.0)


def test_the_queue_drops_its_oldest_and_its_counts_add_up():
    told: list[int] = []
    queue = Latest(2, lambda: told.append(1))
    for number in range(5):
        queue.put(frame(number))
    queue.skip()
    assert queue.counts() == (6, 1, 3, 2) and len(told) == 5
    assert not queue.wait_for_room(0)
    assert queue.get().number == 3 and queue.wait_for_room(0)
    queue.close()
    assert queue.get().number == 4 and queue.counts() == (6, 1, 3, 0)
    with pytest.raises(EOFError):
        queue.get()
    queue.put(frame(6))
    assert queue.counts() == (7, 1, 4, 0) and len(told) == 6


def test_the_queue_is_empty_after_some_time():
    queue = Latest(2)
    assert queue.get(0.01) is None
    queue.put(frame(0))
    queue.close(drop=True)
    assert queue.counts() == (1, 0, 1, 0)


def test_a_fast_video_gives_each_frame_once_however_slow_the_reader(clip):
    with open_inputs([Input(str(clip), "c")], "white") as source:
        want = [item.frame for item in source]
    with Camera("c", str(clip), 1, settings=FAST) as camera:
        frames = []
        for found in take(camera, 60):
            frames.append(found)
            if found.number in (10, 30):
                time.sleep(0.05)
        assert rest(camera) == [] and camera.state == "ended" and camera.error is None
    assert [found.number for found in frames] == list(range(60))
    for found, image in zip(frames, want, strict=True):
        np.testing.assert_array_equal(found.image, image)
    assert camera.counts() == (60, 0, 0, 0)


def test_a_video_is_played_at_its_own_rate_and_drops_what_is_not_taken(clip):
    began = time.monotonic()
    with Camera("c", str(clip), 2) as camera:
        take(camera, 1)
        until(lambda: camera.state == "ended")
        assert time.monotonic() - began > 0.9 * 59 / 100
        last = rest(camera)
    assert [found.number for found in last] == [58, 59]
    assert camera.counts() == (60, 0, 57, 0)


def test_every_third_frame_is_given_and_the_others_are_counted(clip):
    with Camera("c", str(clip), 2, every=3, settings=FAST) as camera:
        frames = rest(camera)
    assert [found.number for found in frames] == list(range(0, 60, 3))
    assert camera.counts() == (60, 40, 0, 0)
    assert all(abs(found.image.mean() - 2 * found.number) <= 2 for found in frames)


def test_a_truncated_video_gives_its_frames_and_one_error(clip, tmp_path):
    content = clip.read_bytes()
    (tmp_path / "t.avi").write_bytes(content[: len(content) * 6 // 10])
    errors: list[str] = []
    with Camera(
        "c",
        str(tmp_path / "t.avi"),
        settings=FAST,
        on_error=lambda camera, error: errors.append(str(error)),
    ) as camera:
        frames = rest(camera)
        until(lambda: errors)
    assert 25 < len(frames) < 45 and camera.state == "ended" and camera.reconnects == 0
    assert errors == [str(camera.error)]
    assert f"is truncated or damaged: {len(frames)} of 60 frames were read" in errors[0]


def test_what_no_retry_mends_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "junk.avi").write_bytes(bytes(5000))
    for where, said in (
        (tmp_path / "pipe.mp4", "pipe.mp4': not a regular file"),
        (tmp_path / "junk.avi", "junk.avi': OpenCV finds no video in it"),
        (tmp_path / "gone.avi", "gone.avi': No such file or directory"),
        ("", "cannot read the video ''"),
    ):
        with pytest.raises(DataError, match=said):
            Camera("c", str(where))
    with pytest.raises(ConfigError, match="expected 'demo:' or 'demo:NUMBER', found 'demo:x'"):
        Camera("c", "demo:x")
    for wrong in ({"room": 0}, {"every": 0}, {"stall": 0}, {"stall": float("nan")}, {"stall": 1e9}):
        with pytest.raises(ConfigError, match="source 'c': queue and every must be positive, and"):
            Camera("c", "demo:", **wrong)


def test_without_opencv_folders_and_the_street_work_and_videos_say_what_is_missing(
    monkeypatch, quick, tmp_path, clip
):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with Camera("d", "demo:") as camera:
        take(camera, 1)
    picture(tmp_path / "a.png", 1)
    with Camera("f", str(tmp_path)) as camera:
        take(camera, 1)
    for where in (str(clip), "0", "rtsp://h/x", "videotestsrc ! appsink"):
        with pytest.raises(ConfigError, match=r"OpenCV, which cannot be .*extra \[camera\]"):
            Camera("c", where)


def test_the_street_moves_changes_its_look_and_goes_on_where_it_was():
    began = time.monotonic()
    with Camera("d", "demo:", 50) as camera:
        frames = take(camera, 8)
        assert time.monotonic() - began > 0.9 * 7 / RATE and camera.state == "running"
    assert [found.number for found in frames] == list(range(8))
    for found in frames:
        np.testing.assert_array_equal(found.image, Street(0).draw(found.number / RATE))
    assert frames[0].image.shape == (360, 640, 3) and frames[0].image.dtype == np.uint8
    looks = [Street(0).draw(SECONDS * number + 3).mean((0, 1)) for number in range(6)]
    gaps = [np.abs(a - b).max() for i, a in enumerate(looks) for b in looks[:i]]
    assert min(gaps) > 8 and np.abs(Street(0).draw(0) - Street(7).draw(0)).mean() > 1


def picture(path: Path, grey: int, size: tuple[int, int] = (8, 6)) -> Path:
    """Write a picture, whole at once, as a program that knows how to do it."""
    Image.new("RGB", size, (grey, grey, grey)).save(path.with_suffix(".tmp"), "PNG")
    os.replace(path.with_suffix(".tmp"), path)
    return path


def greys(frames: list[LiveFrame]) -> list[int]:
    return [int(found.image[0, 0, 0]) for found in frames]


def aged(path: Path, seconds: float) -> None:
    """Let a file be older; its change time becomes now."""
    when = time.time() - seconds
    os.utime(path, (when, when))


def test_a_folder_gives_what_is_there_oldest_first_then_what_comes(tmp_path, quick):
    for grey, name in enumerate(("c.png", "a.jpg", "b.PNG"), 1):
        picture(tmp_path / name, grey)
        aged(tmp_path / name, 1000 - grey)
    for name in (".hidden.png", "notes.txt", "x.png.part", "Thumbs.db"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "inside.png").mkdir()
    os.symlink(tmp_path / "c.png", tmp_path / "link.png")
    os.mkfifo(tmp_path / "pipe.png")
    with Camera("f", str(tmp_path), 1) as camera:
        found = take(camera, 3)
        assert greys(found) == [1, 2, 3]
        assert [Path(frame.name).name for frame in found] == ["c.png", "a.jpg", "b.PNG"]
        picture(tmp_path / "new.png", 9)
        assert greys(take(camera, 1)) == [9]
        assert camera.frames.get(0.3) is None
        picture(tmp_path / "new.png", 10)  # another picture of the same name
        assert greys(take(camera, 1)) == [10]
        assert camera.state == "running" and camera.counts() == (5, 0, 0, 0)
    assert camera.unreadable == 0 and camera.error is None


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_a_picture_that_is_being_written_is_waited_for(tmp_path, quick, ending):
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / f"whole.{ending}")
    content = (tmp_path / f"whole.{ending}").read_bytes()
    cuts = [len(content) * part // 4 for part in range(5)]
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / f"slow.{ending}"
    with Camera("f", str(tmp_path / "in"), 9) as camera, path.open("wb", buffering=0) as stream:
        for begin, end in pairwise(cuts):
            assert camera.frames.get(0.2) is None  # several looks, between which it is at rest
            stream.write(content[begin:end])
        (found,) = take(camera, 1)
        np.testing.assert_array_equal(found.image, read_image(path))
    assert camera.unreadable == 0 and camera.counts().captured == 1


def test_a_bad_file_is_one_error_and_the_next_ones_come(tmp_path, quick, monkeypatch):
    monkeypatch.setattr(folders, "PATIENCE", 0.3)
    errors: list[str] = []
    picture(tmp_path / "whole.png", 5, (64, 64))
    content = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[:-30])
    (tmp_path / "empty.jpg").write_bytes(b"")
    with Camera(
        "f", str(tmp_path), on_error=lambda camera, error: errors.append(str(error))
    ) as camera:
        assert greys(take(camera, 1)) == [5]
        until(lambda: camera.unreadable == 2)
        picture(tmp_path / "next.png", 6)
        assert greys(take(camera, 1)) == [6]
        assert camera.state == "running"
    assert camera.unreadable == len(errors) == 2 and camera.counts().captured == 2
    assert sum("cut.png" in error for error in errors) == 1


def test_what_is_remembered_of_a_folder_is_what_is_in_it(tmp_path, quick):
    kept = folders.Folder(str(tmp_path), Settings())
    kept.open()
    for turn in range(3):
        paths = [picture(tmp_path / f"{turn}-{n}.png", n) for n in range(20)]
        read: list[str] = []
        while len(read) < 20:
            found = kept.read()
            if found is not None:
                read.append(found[1])
        assert sorted(read) == sorted(map(str, paths)) and len(kept._seen) == 20
        for path in paths:
            path.unlink()
    assert kept.read() is None
    assert not kept._seen and not kept._young


def test_more_pictures_than_are_listed_at_once_come_in_their_order(tmp_path, quick, monkeypatch):
    monkeypatch.setattr(folders, "_BATCH", 7)
    for number in range(40):
        aged(picture(tmp_path / f"{number}.png", number), 500 - number)
    with Camera("f", str(tmp_path), 3) as camera:
        assert greys(take(camera, 40)) == list(range(40))


def test_a_folder_that_vanishes_and_comes_back_is_read_on(tmp_path, quick):
    where = tmp_path / "in"
    where.mkdir()
    picture(where / "a.png", 1)
    with Camera("f", str(where)) as camera:
        assert greys(take(camera, 1)) == [1]
        where.rename(tmp_path / "away")
        until(lambda: camera.state == "reconnecting")
        assert f"cannot list '{where}': No such file or directory" in str(camera.error)
        (tmp_path / "away").rename(where)
        picture(where / "b.png", 2)
        assert greys(take(camera, 1)) == [2]  # and not a.png again
        assert camera.state == "running" and camera.reconnects == 1
        shutil.rmtree(where)
        until(lambda: camera.state == "reconnecting")
    assert camera.state == "ended"


def test_a_folder_waits_for_room_rather_than_dropping(tmp_path, quick):
    for number in range(6):
        aged(picture(tmp_path / f"{number}.png", number), 500 - number)
    with Camera("f", str(tmp_path), 1) as camera:
        until(lambda: camera.counts().waiting)
        time.sleep(0.2)
        assert camera.counts() == (1, 0, 0, 1)
        assert greys(take(camera, 6)) == list(range(6))
