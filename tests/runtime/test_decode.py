"""Image files of every mode: each has one meaning, or is refused by name."""

import os
import resource
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image

from runtime.errors import DataError
from runtime.frames.decode import MAX_PIXELS
from runtime.frames.preprocess import preprocess, read_image, read_pixels
from runtime.models import Preprocess
from tests.images import BACKGROUNDS, HEIGHT, OPAQUE, TRANSPARENT, WIDTH, laid_on, png
from tests.users import in_child

EVERY = TRANSPARENT | OPAQUE


@pytest.mark.parametrize("name", EVERY)
def test_a_file_becomes_its_pixels_laid_on_the_background(name, tmp_path):
    if name == "premultiplied-grey.tif" and int(PIL.__version__.partition(".")[0]) < 13:
        pytest.skip("Pillow reads it from 13 on, which needs Python 3.11")
    truth = EVERY[name](tmp_path / name)
    assert (truth[..., 3].min() < 255) == (name in TRANSPARENT)
    for background in (*BACKGROUNDS, "drop"):
        found = read_image(tmp_path / name, background=background)
        assert found.dtype == np.uint8 and not np.isnan(found).any()
        np.testing.assert_array_equal(found, laid_on(truth, background))
    np.testing.assert_array_equal(read_image(str(tmp_path / name)), laid_on(truth, "drop"))


def test_every_colour_under_every_alpha_is_rounded_once(tmp_path):
    colour, alpha = np.meshgrid(*[np.arange(256, dtype=np.uint8)] * 2)
    truth = np.dstack([colour, 255 - colour, colour // 2, alpha])
    Image.fromarray(truth).save(tmp_path / "x.png")
    for background in BACKGROUNDS:
        found = read_image(tmp_path / "x.png", background=background)
        np.testing.assert_array_equal(found, laid_on(truth, background))


def test_pixels_are_laid_on_the_background_before_they_are_resized(tmp_path):
    truth = TRANSPARENT["colour.png"](tmp_path / "x.png")
    for background in BACKGROUNDS:
        spec = Preprocess(8, "crop", "bicubic", background=background)
        wanted = preprocess(laid_on(truth, background), spec)
        np.testing.assert_array_equal(read_pixels(tmp_path / "x.png", spec), wanted)


@pytest.mark.parametrize(
    ("values", "kind", "message"),
    [
        ([-1, 9], "i4", "values of 32 bits go from -1 to 9, expected 0 to 255 or 0 to 65535; conv"),
        ([0, 65536], "i4", "values of 32 bits go from 0 to 65536, expected"),
        ([-0.5, 0.5], "f4", "values are floats from -0.5 to 0.5, expected 0 to 1 or 0 to 255; con"),
        ([0, 255.5], "f4", "values are floats from 0 to 255.5"),
        ([0, np.nan], "f4", "values are floats from nan to nan"),
        ([0, np.inf], "f4", "values are floats from 0 to inf"),
    ],
)
def test_values_without_a_meaning_are_refused_with_their_range(values, kind, message, tmp_path):
    Image.fromarray(np.array([values], kind)).save(tmp_path / "x.tif")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DataError, match=rf"x\.tif': its grey {message}") as caught:
            read_image(tmp_path / "x.tif")
    assert str(caught.value).endswith("; convert it to 8 or 16 bits")


def test_a_photograph_of_200_megapixels_is_read_without_a_warning(tmp_path):
    Image.new("L", (16320, 12240), 90).save(tmp_path / "200.jpg")
    limit = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_image(tmp_path / "200.jpg")
    assert found.shape == (6120, 8160, 3) and (found == 90).all()
    assert limit == Image.MAX_IMAGE_PIXELS  # that of the program around


@pytest.mark.parametrize(("size", "shrink"), [((900, 800), 1), ((1600, 900), 2), ((4000, 3000), 4)])
def test_a_large_jpeg_is_decoded_at_the_largest_size_that_is_not_large(
    tmp_path, monkeypatch, size, shrink
):
    monkeypatch.setattr("runtime.frames.decode._WHOLE", 800_000)
    picture = Image.linear_gradient("L").resize(size)
    picture.save(tmp_path / "x.jpg", quality=95)
    found = read_image(tmp_path / "x.jpg")
    assert found.shape == (size[1] // shrink, size[0] // shrink, 3)
    want = np.asarray(picture.reduce(shrink), np.int16)
    assert np.abs(found[..., 0] - want).max() <= 2


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path):
    png(tmp_path / "bomb.png", 8, 2, np.zeros((1, 1, 3), int))
    content = bytearray((tmp_path / "bomb.png").read_bytes())
    content[16:24] = struct.pack(">II", 15_000, 14_001)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "bomb.png").write_bytes(content)
    assert 15_000 * 14_001 > MAX_PIXELS
    with pytest.raises(DataError, match="15000 x 14001 pixels, too many: at most 210 million are "):
        read_image(tmp_path / "bomb.png")


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(DataError, match=r"x\.png': not a regular file; check the path"):
        read_image(tmp_path / "x.png")


def test_what_the_memory_cannot_hold_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    Image.new("1", (6000, 6000)).save(tmp_path / "x.png")
    Image.new("1", (WIDTH, HEIGHT)).save(tmp_path / "small.png")
    monkeypatch.setattr("os.sysconf", lambda name: 2**14)  # 256 MiB
    with pytest.raises(DataError, match=r"6000 x 6000 pixels, too many for the 0\.2 GiB of memory"):
        read_image(tmp_path / "x.png")
    assert read_image(tmp_path / "small.png").shape == (HEIGHT, WIDTH, 3)


def test_a_picture_that_fills_the_memory_is_not_called_damaged(tmp_path):
    Image.new("1", (12_000, 12_000)).save(tmp_path / "x.png")

    def limit():
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + (64 << 20),) * 2)

    said = in_child(limit, lambda: read_image(tmp_path / "x.png"))
    assert said == (
        f"DataError: cannot read the image '{tmp_path}/x.png': the memory is full; shrink the "
        "picture, or free some memory"
    )


def test_postscript_under_another_name_starts_no_program(tmp_path, monkeypatch):
    (tmp_path / "gs").write_text(f"#!/bin/sh\necho ran >> '{tmp_path}/ran'\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # whether there is one
    header = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
    (tmp_path / "x.png").write_text(f"{header}{{}} loop\n")
    with pytest.raises(DataError, match="'.*x.png': it is PostScript, .*; convert it to PNG"):
        read_image(tmp_path / "x.png")
    assert not (tmp_path / "ran").exists()
