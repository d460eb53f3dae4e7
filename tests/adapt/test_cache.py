import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adapt.data import cache, home
from adapt.data.base import ImageSet
from runtime.errors import DataError, StorageError
from runtime.frames.preprocess import preprocess, read_image
from runtime.spec import Preprocess


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UDA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def images(folder, count=5):
    """Write PNG files of noise, of different sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        noise = np.random.default_rng(number).integers(0, 256, (20 + number % 7, 30, 3), np.uint8)
        paths.append(folder / f"{number}.png")
        Image.fromarray(noise).save(paths[-1])
    return ImageSet(tuple(paths), np.zeros(count, np.int64), ("a", "b"), "real")


def files(folder):
    return sorted(p.name for p in (folder / "pixels").iterdir())


@pytest.mark.parametrize("resize", ["squash", "crop"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_pixels_are_what_the_runtime_sees(resize, interpolation, tmp_path):
    some = images(tmp_path / "i")
    found = cache.pixels(some, 16, resize, interpolation)
    spec = Preprocess(16, resize, interpolation)
    for path, array in zip(some.paths, found.images, strict=True):
        assert np.array_equal(array, preprocess(read_image(path), spec))
    assert found.kept.tolist() == [0, 1, 2, 3, 4] and found.skipped == ()


def test_more_images_than_one_chunk_keep_their_order(tmp_path):
    some = images(tmp_path / "i", 300)
    found = cache.pixels(some, 8)
    for index in (0, 1, 255, 256, 257, 299):
        expected = preprocess(read_image(some.paths[index]), Preprocess(8))
        assert np.array_equal(found.images[index], expected)


def test_the_result_is_mapped_and_cannot_be_written(tmp_path):
    found = cache.pixels(images(tmp_path / "i"), 8).images
    assert isinstance(found, np.memmap) and found.shape == (5, 8, 8, 3)
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 0


def test_a_second_call_decodes_nothing(tmp_path, own_cache):
    some = images(tmp_path / "i")
    first = cache.pixels(some, 8).images.copy()
    place = next((own_cache / "pixels").glob("*.bin"))
    os.utime(place, ns=(1, 1))
    assert np.array_equal(cache.pixels(some, 8).images, first)
    assert place.stat().st_mtime_ns == 1


@pytest.mark.parametrize("change", ["size", "resize", "interpolation", "content", "files"])
def test_any_change_makes_new_pixels(change, tmp_path, own_cache):
    some = images(tmp_path / "i")
    cache.pixels(some, 8)
    arguments = {"size": 8, "resize": "squash", "interpolation": "bilinear"}
    new = {"size": 9, "resize": "crop", "interpolation": "bicubic"}
    if change in new:
        arguments[change] = new[change]
    elif change == "content":
        Image.new("RGB", (20, 30)).save(some.paths[2])
    else:
        some = some.subset(np.array([0, 2, 3]))
    found = cache.pixels(some, **arguments)
    assert len(files(own_cache)) == 4
    expected = preprocess(read_image(some.paths[2]), Preprocess(**arguments))
    assert np.array_equal(found.images[2], expected)


@pytest.mark.parametrize("harm", ["short", "gone", "note lost", "note broken", "note of another"])
def test_a_damaged_cache_is_made_again(harm, tmp_path, own_cache):
    some = images(tmp_path / "i")
    first = cache.pixels(some, 8).images.copy()
    place = next((own_cache / "pixels").glob("*.bin"))
    note = place.with_suffix(".json")
    if harm == "short":
        place.write_bytes(place.read_bytes()[:-1])
    elif harm == "gone":
        place.unlink()
    elif harm == "note lost":
        note.unlink()
    else:
        note.write_text("{" if harm == "note broken" else '{"images": 4, "skipped": []}')
    assert np.array_equal(cache.pixels(some, 8).images, first)


def test_few_unreadable_images_are_skipped_and_counted(tmp_path, caplog):
    some = images(tmp_path / "i", 201)
    some.paths[7].write_bytes(b"no image")
    some.paths[100].write_bytes(some.paths[100].read_bytes()[:200])
    for _ in range(2):  # made, then read back
        caplog.clear()
        found = cache.pixels(some, 8)
        assert found.skipped == (7, 100)
        assert found.kept.tolist() == [i for i in range(201) if i not in (7, 100)]
        assert found.images.shape == (199, 8, 8, 3)
        expected = preprocess(read_image(some.paths[101]), Preprocess(8))
        assert np.array_equal(found.images[99], expected)
        warning = "2 of 201 images of 'real' cannot be read and are left out, the first: '"
        assert warning in caplog.text


@pytest.mark.parametrize("count", [3, 100])
def test_one_percent_of_unreadable_images_is_an_error_that_names_the_first(
    count, tmp_path, own_cache
):
    some = images(tmp_path / "i", count)
    some.paths[1].write_bytes(b"no image")
    with pytest.raises(DataError, match=rf"1 of {count} images of 'real' .*i/1\.png"):
        cache.pixels(some, 8)
    assert files(own_cache) == []


@pytest.mark.parametrize(("link", "what"), [(False, "file"), (True, "link")])
def test_a_vanished_file_and_a_link_to_nowhere_are_named(link, what, tmp_path):
    some = images(tmp_path / "i")
    some.paths[3].unlink()
    if link:
        some.paths[3].symlink_to(tmp_path / "nowhere.png")
    for look in (lambda: cache.pixels(some, 8), some.digest):
        with pytest.raises(DataError, match=rf"3\.png' cannot be reached.*repair the {what} or"):
            look()


def test_a_file_name_that_is_no_utf_8_is_as_good_as_any(tmp_path):
    some = images(tmp_path / "i")
    odd = Path(os.fsdecode(os.fsencode(tmp_path / "i") + b"/caf\xe9.png"))
    some.paths[3].rename(odd)
    renamed = replace(some, paths=(*some.paths[:3], odd, some.paths[4]))
    before = some.paths[0].stat()
    assert cache.pixels(renamed, 8).images.shape == (5, 8, 8, 3)
    assert renamed.digest() != renamed.subset(np.array([0, 1, 2, 4])).digest()
    assert some.paths[0].stat().st_mtime_ns == before.st_mtime_ns


def test_a_cache_that_cannot_be_written_is_a_storage_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("UDA_CACHE", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="cannot write"):
        cache.pixels(images(tmp_path / "i"), 8)


def test_the_cache_lies_in_the_home_folder_unless_told(monkeypatch, tmp_path):
    monkeypatch.delenv("UDA_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home.folder() == tmp_path / ".cache" / "uda-adapt"
    monkeypatch.setenv("UDA_CACHE", "~/pictures")
    assert home.folder() == tmp_path / "pictures"
