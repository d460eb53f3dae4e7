"""Ugly pictures in a data set, and two processes that need the same pixels at once."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from adapt.data import cache, load_folders
from runtime.errors import DataError
from runtime.frames.preprocess import preprocess, read_image
from runtime.models import Preprocess

RED, HALF = (200, 30, 40), 12


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UDA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def two_tone(mode):
    """Return a picture whose left half is red (or its grey), whose right half is black."""
    image = Image.new("RGB", (24, 24))
    image.paste(RED, (0, 0, HALF, 24))
    return image.convert(mode)


@pytest.fixture
def shop(tmp_path):
    for domain in ("day", "night"):
        for name in ("cup", "key"):
            (tmp_path / "shop" / domain / name).mkdir(parents=True)
            two_tone("RGB").save(tmp_path / "shop" / domain / name / "plain.png")
    return tmp_path / "shop"


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("grey.png", "L"),
        ("grey.jpg", "L"),
        ("see-through.png", "RGBA"),
        ("printed.jpg", "CMYK"),
        ("palette.gif", "P"),
        ("palette.png", "P"),
        ("black-white.png", "1"),
        ("luma.jpg", "YCbCr"),
        ("see-through.webp", "RGBA"),
    ],
)
def test_every_kind_of_picture_becomes_rgb_pixels(name, mode, shop):
    two_tone(mode).save(shop / "day" / "cup" / name)
    images = load_folders(shop, "day", "night").source
    found = cache.pixels(images, 8)
    index = [path.name for path in images.paths].index(name)
    left, right = found.images[index, :, 0].astype(int), found.images[index, :, -1].astype(int)
    expected = RED if mode not in ("L", "1") else (round(np.dot(RED, (0.299, 0.587, 0.114))),) * 3
    if mode == "1":  # dithered
        assert (left[:, 0] == left[:, 2]).all() and right.max() == 0
    else:
        assert np.abs(left - expected).max() <= 12 and right.max() <= 12
    assert found.skipped == ()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_camera_gives_upright_pixels(orientation, shop):
    upright = np.zeros((16, 16, 3), np.uint8)
    upright[:8, :8], upright[:8, 8:], upright[8:, :8] = 255, 120, 60
    undo = {2: (1, 0), 3: (0, 2), 4: (1, 2), 5: (1, 1), 6: (0, 1), 7: (1, 3), 8: (0, 3)}
    flip, turns = undo.get(orientation, (0, 0))
    stored = np.rot90(np.fliplr(upright) if flip else upright, turns)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(shop / "day" / "cup" / "turned.png", exif=exif)
    images = load_folders(shop, "day", "night").source
    index = [path.name for path in images.paths].index("turned.png")
    found = cache.pixels(images, 16).images[index]
    assert np.array_equal(found, upright)


@pytest.mark.parametrize("keep", [0, 20, 400])
def test_a_truncated_picture_is_left_out_or_stops_everything(keep, shop, caplog):
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    bad = shop / "day" / "cup" / "bad.jpg"
    Image.fromarray(noise).save(bad)
    bad.write_bytes(bad.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"1 of 3 images of 'day' cannot be .*bad\.jpg") as caught:
        cache.pixels(load_folders(shop, "day", "night").source, 8)
    assert str(caught.value).count("repair or") == 1
    for number in range(98):
        two_tone("RGB").save(shop / "day" / "key" / f"{number}.png")
    images = load_folders(shop, "day", "night").source
    found = cache.pixels(images, 8)
    assert len(images) == 101 and found.skipped == (0,) and images.paths[0] == bad
    assert "1 of 101 images of 'day' cannot be read" in caplog.text


BUILD = """
import hashlib, pathlib, sys, time
import numpy as np
from adapt.data import cache
from adapt.data.base import ImageSet

folder, cache_folder = map(pathlib.Path, sys.argv[1:])
paths = tuple(sorted(folder.glob("*.png")))
images = ImageSet(paths, np.zeros(len(paths), np.int64), ("a", "b"), "real")
print("ready", flush=True)
sys.stdin.read()
found = cache.pixels(images, 16)
print(hashlib.sha256(found.images.tobytes()).hexdigest(), len(found.positions), end=" ")
print(*(path.stat().st_ino for path in (cache_folder / "pixels").glob("*.bin")))
"""


def test_processes_that_build_one_entry_at_once_get_the_right_pixels(tmp_path, own_cache):
    (tmp_path / "i").mkdir()
    paths = [tmp_path / "i" / f"{number:02}.png" for number in range(60)]
    for number, path in enumerate(paths):
        noise = np.random.default_rng(number).integers(0, 256, (30, 20, 3), np.uint8)
        Image.fromarray(noise).save(path)
    left_over = own_cache / "pixels" / f".{'0' * 64}.bin.01234567.tmp"  # of other images
    left_over.parent.mkdir(parents=True)
    for path in (left_over, left_over.with_suffix(".lock")):
        path.write_bytes(b"of a killed process")
    words = [sys.executable, "-c", BUILD, str(tmp_path / "i"), str(own_cache)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    workers = [subprocess.Popen(words, **pipes) for _ in range(3)]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        worker.stdin.close()
    found = [worker.stdout.read().split() for worker in workers]
    for worker in workers:
        worker.stdout.close()
        assert worker.wait(60) == 0
    expected = np.stack([preprocess(read_image(path), Preprocess(16)) for path in paths])
    inodes = {inode for _, _, inode in found}
    assert len(inodes) == 1  # made once
    assert found == [[hashlib.sha256(expected.tobytes()).hexdigest(), "60", *inodes]] * 3
    assert sorted(p.suffix for p in (own_cache / "pixels").iterdir()) == [".bin", ".safetensors"]
