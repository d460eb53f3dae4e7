"""Frames of video files, whole and damaged, and annotated videos."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime.errors import StorageError
from runtime.outputs.video_file import VideoFile
from runtime.sources import open_inputs
from runtime.sources.base import Input
from tests.users import in_child

cv2 = pytest.importorskip("cv2", reason="the extra [camera] is not installed")

SIZE = (64, 48)


def film(path, count, rate=30.0, kind="MJPG"):
    """Write frames, each of one grey that names it."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*kind), rate, SIZE)
    for number in range(count):
        writer.write(np.full((SIZE[1], SIZE[0], 3), number % 250, np.uint8))
    writer.release()
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A video of 300 frames, ten seconds."""
    return film(tmp_path_factory.mktemp("clip") / "clip.avi", 300)


def play(*paths):
    with open_inputs([Input(str(p), Path(p).name, ("x",)) for p in paths], "white") as source:
        count = source.count
        return list(source), count, source.notes


def error(path):
    (item,), _, _ = play(path)
    assert item.frame is None
    return str(item.error)


def test_every_frame_comes_once_in_order_with_its_time(clip):
    items, count, notes = play(clip)
    assert count == len(items) == 300 and not notes
    for number, item in enumerate(items):
        assert item.name == f"{clip}#{number}" and item.error is None
        assert item.frame.shape == (48, 64, 3) and item.frame.dtype == np.uint8
        assert abs(int(item.frame.mean()) - number % 250) <= 2
        assert item.seconds == pytest.approx(number / 30, abs=1e-3) and item.rate == 30
    assert not np.shares_memory(items[0].frame, items[1].frame)


def test_colours_are_rgb(tmp_path):
    writer = cv2.VideoWriter(str(tmp_path / "c.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 5, SIZE)
    writer.write(np.full((48, 64, 3), (0, 0, 250), np.uint8))  # OpenCV's red
    writer.release()
    ((item,), _, _) = play(tmp_path / "c.avi")
    assert item.frame[..., 0].mean() > 240 and item.frame[..., 2].mean() < 20


def test_a_truncated_video_gives_its_frames_and_one_error(clip, tmp_path):
    content = clip.read_bytes()
    (tmp_path / "t.avi").write_bytes(content[: len(content) * 6 // 10])
    items, _, _ = play(tmp_path / "t.avi")
    *frames, last = items
    assert 150 < len(frames) < 200 and all(item.error is None for item in frames)
    said = f"t.avi' is truncated or damaged: {len(frames)} of 300 frames were read; record or copy"
    assert said in str(last.error) and last.number is None


def test_a_damaged_frame_stops_no_other(clip, tmp_path):
    content = bytearray(clip.read_bytes())
    start = content.index(b"00dc", len(content) // 2) + 8
    size = int.from_bytes(content[start - 4 : start], "little")
    content[start : start + size] = bytes(size)
    (tmp_path / "d.avi").write_bytes(content)
    *frames, last = play(tmp_path / "d.avi")[0]
    numbers = [item.number for item in frames]
    assert len(frames) == 299 and numbers[-1] == 299 and len(set(range(300)) - set(numbers)) == 1
    assert "truncated or damaged: 299 of 300 frames were read" in str(last.error)


def test_a_number_of_frames_that_is_a_guess_is_a_note(clip, tmp_path):
    """As of films with a changing rate, whose header has a number that nobody counted."""
    os.link(clip, tmp_path / "clip.avi")
    entry = "file clip.avi\nduration 0.1\n"
    (tmp_path / "guess.avi").write_text(f"ffconcat version 1.0\n{entry}")
    items, count, notes = play(tmp_path / "guess.avi")
    assert [item.error for item in items] == [None] * 300
    name = tmp_path / "guess.avi"
    assert notes == [f"the video '{name}' has 300 frames, though its header says {count}"]


def test_without_frames_or_without_a_video_there_is_one_error(tmp_path, clip):
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "junk.avi").write_bytes(os.urandom(5000))
    (tmp_path / "folder.mkv").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    for name in ("empty.mp4", "junk.avi"):
        assert f"{name}': OpenCV finds no video in it; repair or remove it" in error(
            tmp_path / name
        )
    assert "folder.mkv': Is a directory; check the path" in error(tmp_path / "folder.mkv")
    assert "pipe.mp4': not a regular file" in error(tmp_path / "pipe.mp4")
    assert "gone.avi': No such file or directory" in error(tmp_path / "gone.avi")
    film(tmp_path / "zero.avi", 0)
    assert "zero.avi' has no frames; record or copy it again" in error(tmp_path / "zero.avi")


def test_a_name_that_is_no_text_is_refused_before_opencv_crashes(tmp_path, clip):
    name = os.fsdecode(bytes(tmp_path) + b"/\x80.avi")
    os.link(clip, name)
    assert "its name is not UTF-8 text; rename it" in error(name)


def test_several_videos_and_images_keep_their_order(clip, tmp_path):
    film(tmp_path / "one.avi", 3)
    Image.new("RGB", (4, 4)).save(tmp_path / "x.png")
    (tmp_path / "bad.avi").write_bytes(b"x")
    paths = [tmp_path / name for name in ("one.avi", "x.png", "bad.avi", "one.avi")]
    items, count, _ = play(*paths)
    assert count == len(items) == 8
    assert [item.number for item in items] == [0, 1, 2, None, None, 0, 1, 2]
    assert [item.name for item in items if item.error] == [str(tmp_path / "bad.avi")]


def open_files():
    links = Path("/proc/self/fd").iterdir()
    return [os.readlink(link) for link in links if os.path.lexists(link)]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no list of open files here")
def test_a_video_that_is_abandoned_is_closed(clip):
    with open_inputs([Input(str(clip), "clip.avi")], "white") as source:
        frames = iter(source)
        next(frames)
        assert str(clip) in open_files()
    assert str(clip) not in open_files()


def test_damaged_videos_are_quiet(clip, tmp_path):
    """What OpenCV and FFmpeg would print is said by us."""
    (tmp_path / "t.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(99))
    code = (
        "import sys; from runtime.sources import open_inputs; from runtime.sources.base import "
        "Input; print(len(list(open_inputs([Input(p, 'x') for p in sys.argv[1:]], 'white'))))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "t.mp4")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_a_video_holds_the_frames_that_were_written(tmp_path):
    video = VideoFile(tmp_path / "new" / "v.avi", 12.5, (320, 100))
    for number in range(5):
        video.write(Image.new("RGB", (320, 100) if number else (64, 64), (250, number, 0)))
        assert not (tmp_path / "new" / "v.avi").exists()
    video.close()
    video.close()
    items, _, _ = play(tmp_path / "new" / "v.avi")
    assert [item.frame.shape for item in items] == [(100, 320, 3)] * 5
    assert items[0].rate == 12.5 and items[0].frame[..., 0].mean() > 240
    assert os.listdir(tmp_path / "new") == ["v.avi"]


def test_a_video_that_a_full_disk_cut_short_is_not_kept(tmp_path):
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    def write():
        video = VideoFile(tmp_path / "v.avi", 30, (320, 240))
        noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
        for _ in range(20):
            video.write(Image.fromarray(noise))
        video.close()

    said = in_child(limit, write)
    assert (
        said.startswith("StorageError: cannot write '") and "v.avi': the disk is full, or" in said
    )
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="File exists; choose another name"):
        VideoFile(tmp_path / "file" / "v.avi", 30, SIZE)
