"""Cached pixels: what they are, when they are made again, and that damage never gets through."""

import logging
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adapt.data import cache, contents, home
from adapt.data.base import ImageSet
from runtime.errors import DataError, StorageError
from runtime.frames.preprocess import preprocess, read_image
from runtime.models import Preprocess
from runtime.storage import checksummed


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


def equals(folder, count=2):
    """Write BMP files of one size and one time of modification, which only differ in content."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = tuple(folder / f"{number}.bmp" for number in range(count))
    for number, path in enumerate(paths):
        Image.new("RGB", (8, 8), (40 * number, 0, 0)).save(path)
        os.utime(path, ns=(10**18, 10**18))
    return ImageSet(paths, np.zeros(count, np.int64), ("a", "b"), "real")


def files(folder):
    return sorted(p.name for p in (folder / "pixels").iterdir())


def expected(some, size=8):
    return np.stack([preprocess(read_image(path), Preprocess(size)) for path in some.paths])


@pytest.fixture
def settled(monkeypatch):
    """Trust the times of files that were written just now."""
    monkeypatch.setattr(contents, "SETTLED", -(10**10))


@pytest.fixture
def read(monkeypatch):
    """The names of the files that were read to know their contents."""
    names, real = [], contents.file_sha256

    def noted(path):
        names.append(path.name)
        return real(path)

    monkeypatch.setattr(contents, "file_sha256", noted)
    return names


@pytest.mark.parametrize("resize", ["squash", "crop"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_pixels_are_what_the_runtime_sees(resize, interpolation, tmp_path):
    some = images(tmp_path / "i")
    found = cache.pixels(some, 16, resize, interpolation)
    spec = Preprocess(16, resize, interpolation)
    for path, array in zip(some.paths, found.images, strict=True):
        assert np.array_equal(array, preprocess(read_image(path), spec))
    assert found.positions.tolist() == [0, 1, 2, 3, 4] and found.skipped == ()


def test_more_images_than_one_chunk_keep_their_order(tmp_path):
    some = images(tmp_path / "i", 300)
    found = cache.pixels(some, 8)
    for index in (0, 1, 255, 256, 257, 299):
        assert np.array_equal(
            found.images[index], preprocess(read_image(some.paths[index]), Preprocess(8))
        )


def test_images_are_indexed_as_an_array_is(tmp_path):
    some = images(tmp_path / "i")
    found, whole = cache.pixels(some, 8).images, expected(some)
    assert (found.shape, found.dtype, found.nbytes) == (whole.shape, whole.dtype, whole.nbytes)
    mask = np.array([True, False, True, False, True])
    for where in (0, -1, np.int64(2), slice(1, 4), slice(9, 12), np.array([4, 0, 4]), mask):
        assert np.array_equal(found[where], whole[where])
        assert np.array_equal(found.part(slice(1, 4))[0:2], whole[1:3])
    assert np.array_equal(np.asarray(found), whole) and np.array_equal(found.copy(), whole)
    for where in ((0, 1, 2), (-1, slice(2)), (slice(1, 3), 2), (..., 0), ()):
        assert np.array_equal(found[where], whole[where])
    for where in (5, -6, np.array([5]), (5, 0), (0, 8)):
        with pytest.raises(IndexError):
            found[where]
    found[0][:] = 0  # a fresh array each time
    assert np.array_equal(found[0], whole[0])


def test_a_second_call_decodes_nothing(tmp_path, own_cache):
    some = images(tmp_path / "i")
    first = cache.pixels(some, 8).images.copy()
    cached = next((own_cache / "pixels").glob("*.bin"))
    os.utime(cached, ns=(1, 1))
    assert np.array_equal(cache.pixels(some, 8).images, first)
    assert cached.stat().st_mtime_ns == 1


CHANGES = ("size", "resize", "interpolation", "background", "content", "files")


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_makes_new_pixels(change, tmp_path, own_cache):
    some = images(tmp_path / "i")
    cache.pixels(some, 8)
    arguments = {"size": 8, "resize": "squash", "interpolation": "bilinear"}
    new = {"size": 9, "resize": "crop", "interpolation": "bicubic", "background": "white"}
    if change in new:
        arguments[change] = new[change]
    elif change == "content":
        Image.new("RGB", (20, 30)).save(some.paths[2])
    else:
        some = some.subset(np.array([0, 2, 3]))
    found = cache.pixels(some, **arguments)
    assert len(files(own_cache)) == 4
    assert np.array_equal(
        found.images[2], preprocess(read_image(some.paths[2]), Preprocess(**arguments))
    )


@pytest.mark.parametrize("change", ["swapped", "overwritten", "copied over", "linked"])
def test_other_images_of_equal_size_and_time_are_noticed(change, tmp_path, settled):
    some = equals(tmp_path / "i")
    first = cache.pixels(some, 8).images.copy()
    one, two = some.paths
    if change == "swapped":
        one.rename(tmp_path / "t")
        two.rename(one)
        (tmp_path / "t").rename(two)
    elif change == "overwritten":
        old = one.read_bytes(), two.read_bytes()
        one.write_bytes(old[1])
        two.write_bytes(old[0])
    else:
        shutil.copy2(one, tmp_path / "t")
        shutil.copy2(two, one)
        if change == "linked":
            two.unlink()
            two.symlink_to(tmp_path / "t")
        else:
            shutil.copy2(tmp_path / "t", two)
    for path in some.paths:
        os.utime(path, ns=(10**18, 10**18))
        assert (path.stat().st_size, path.stat().st_mtime_ns) == (one.stat().st_size, 10**18)
    assert np.array_equal(cache.pixels(some, 8).images, first[::-1])


@pytest.mark.parametrize("change", ["nothing", "touched", "mode", "copied", "moved", "renamed"])
def test_the_same_images_elsewhere_cost_a_look_and_no_decoding(
    change, tmp_path, own_cache, settled, read
):
    some = images(tmp_path / "i")
    first = cache.pixels(some, 8).images.copy()
    made = next((own_cache / "pixels").glob("*.bin")).stat().st_ino
    assert sorted(read) == [path.name for path in some.paths]
    read.clear()
    if change == "touched":
        some.paths[3].touch()
    elif change == "mode":
        some.paths[3].chmod(0o600)
    elif change == "copied":
        shutil.copytree(tmp_path / "i", tmp_path / "j")
    elif change == "moved":
        (tmp_path / "i").rename(tmp_path / "j")
    elif change == "renamed":
        some.paths[3].rename(tmp_path / "i" / "33.png")
        some = replace(some, paths=(*some.paths[:3], tmp_path / "i" / "33.png", some.paths[4]))
    if (tmp_path / "j").exists():
        some = replace(some, paths=tuple(tmp_path / "j" / path.name for path in some.paths))
    assert np.array_equal(cache.pixels(some, 8).images, first)
    wanted = {"nothing": [], "touched": ["3.png"], "mode": ["3.png"], "renamed": ["33.png"]}
    assert sorted(read) == wanted.get(change, [path.name for path in some.paths])
    assert [p.stat().st_ino for p in (own_cache / "pixels").glob("*.bin")] == [made]


def test_a_file_written_just_now_is_read_again(tmp_path, read):
    """Its times might not show another change within the same tick of the clock."""
    some = equals(tmp_path / "i")
    for _ in range(2):
        contents.contents(some.paths)
    assert len(read) == 4


def test_what_was_read_before_an_interruption_is_not_read_again(
    tmp_path, settled, read, monkeypatch
):
    some = equals(tmp_path / "i", 9)
    monkeypatch.setattr(contents, "_PART", 2)
    noted = contents.file_sha256

    def interrupted(path):
        if path.name == "4.bmp":
            raise KeyboardInterrupt
        return noted(path)

    monkeypatch.setattr(contents, "file_sha256", interrupted)
    with pytest.raises(KeyboardInterrupt):
        contents.contents(some.paths)
    monkeypatch.setattr(contents, "file_sha256", noted)
    read.clear()
    contents.contents(some.paths)
    assert sorted(read) == [f"{number}.bmp" for number in range(4, 9)]


def bad_bytes(content, generator):
    """Yield ways of damaging a file: a flip in each region, cuts, and what is not the file."""
    for start in range(0, len(content), max(len(content) // 40, 1)):
        end = min(start + max(len(content) // 40, 1), len(content))
        flipped = bytearray(content)
        flipped[generator.integers(start, end)] ^= 1 << int(generator.integers(8))
        yield bytes(flipped)
    for length in (0, 1, 8, len(content) // 2, len(content) - 1):
        yield content[:length]
    yield content + b"\0"
    yield bytes(len(content))
    yield generator.bytes(len(content))
    yield b'{"images": 6, "skipped": ' + b"[" * 3000 + b"]" * 3000 + b"}"
    yield (10**6).to_bytes(8, "little") + b"{" * 2000


@pytest.mark.parametrize("kind", ["pixels/*.bin", "pixels/*.safetensors", "contents/*"])
def test_whatever_happens_to_the_cache_pixels_stay_right(
    kind, tmp_path, own_cache, settled, caplog
):
    some = images(tmp_path / "i")
    right, digest = cache.pixels(some, 8).images.copy(), some.digest()
    (cached,) = own_cache.glob(kind)
    content = cached.read_bytes()
    for number, damage in enumerate(bad_bytes(content, np.random.default_rng(0))):
        cached.write_bytes(damage)
        caplog.clear()
        assert np.array_equal(cache.pixels(some, 8).images, right), number
        assert some.digest() == digest, number
        # Padding and the order of a header's keys mean nothing, so they may stay as they are.
        assert "again" in caplog.text or kind != "pixels/*.bin"
        assert len(caplog.records) <= 1
        caplog.clear()
        assert np.array_equal(cache.pixels(some, 8).images, right)
        assert "again" not in caplog.text, "mended for good"
        cached.write_bytes(content)


@pytest.mark.parametrize("harm", ["folder", "pipe", "link to nowhere", "gone", "unreadable"])
@pytest.mark.parametrize("kind", ["pixels/*.bin", "pixels/*.safetensors", "contents/*"])
def test_what_is_not_a_file_of_ours_is_no_traceback(harm, kind, tmp_path, own_cache, settled):
    some = images(tmp_path / "i")
    right = cache.pixels(some, 8).images.copy()
    (cached,) = own_cache.glob(kind)
    if harm == "unreadable":
        cached.chmod(0)
    else:
        cached.unlink()
    if harm == "folder":
        cached.mkdir()
    elif harm == "pipe":
        os.mkfifo(cached)
    elif harm == "link to nowhere":
        cached.symlink_to(tmp_path / "nowhere")
    try:
        assert np.array_equal(cache.pixels(some, 8).images, right)
    except StorageError as error:
        assert harm == "folder" and cached.name in str(error)


@pytest.mark.parametrize(
    "lie", ["key", "count", "fewer", "positions", "order", "type", "shape", "lacking", "scalar"]
)
def test_a_whole_note_about_other_images_is_not_believed(lie, tmp_path, own_cache, caplog):
    some = images(tmp_path / "i")
    right = cache.pixels(some, 8).images.copy()
    (cached,) = own_cache.glob("pixels/*.safetensors")
    file = checksummed.read(cached, cache.KIND, cache.SCHEMA)
    document, tensors = dict(file.document), dict(file.tensors)
    if lie == "key":
        document["key"] = "0" * 64
    elif lie == "count":
        document["images"] = 6
    elif lie == "lacking":
        del tensors["kept"]
    else:
        tensors["kept"] = {
            "fewer": tensors["kept"][:-1],
            "positions": np.array([0, 1, 2, 3, 5]),
            "order": np.array([0, 2, 1, 3, 4]),
            "type": tensors["kept"].astype(np.int32),
            "shape": tensors["kept"][:, None],
            "scalar": np.array(3),
        }[lie]
    checksummed.write(cached, cache.KIND, cache.SCHEMA, document, tensors)
    assert np.array_equal(cache.pixels(some, 8).images, right)
    assert "cached pixels are made again" in caplog.text


def test_damage_while_the_pixels_are_open_is_mended_and_told_once(tmp_path, own_cache, caplog):
    some = images(tmp_path / "i")
    found = cache.pixels(some, 8).images
    right = found.copy()
    (cached,) = own_cache.glob("pixels/*.bin")
    content, generator = cached.read_bytes(), np.random.default_rng(1)
    with caplog.at_level(logging.WARNING):
        for _ in range(20):
            flipped = bytearray(content)
            where = int(generator.integers(len(content)))
            flipped[where] ^= 1 << int(generator.integers(8))
            with cached.open("r+b") as stream:
                stream.write(flipped)
            row = where // (8 * 8 * 3)
            assert np.array_equal(found[np.array([row, row])], right[[row, row]])
            assert cached.read_bytes() == content
    assert caplog.text.count("images are decoded again") == 1
    os.truncate(cached, 100)  # a map of the file would end the process here
    assert np.array_equal(found, right) and cached.read_bytes() == content


def test_damage_where_the_image_changed_too_is_an_error(tmp_path, own_cache):
    some = images(tmp_path / "i")
    found = cache.pixels(some, 8).images
    (cached,) = own_cache.glob("pixels/*.bin")
    with cached.open("r+b") as stream:
        stream.write(bytes(10))
    Image.new("RGB", (20, 30)).save(some.paths[0])
    with pytest.raises(DataError, match=r"file of image 0 has changed; start again"):
        found[0]
    assert np.array_equal(cache.pixels(some, 8).images, expected(some))


def test_an_image_that_changes_while_it_is_decoded_is_an_error(tmp_path, settled, monkeypatch):
    some = equals(tmp_path / "i")
    contents.contents(some.paths)
    real = cache.contents

    def late(paths):
        found = real(paths)
        paths[0].write_bytes(paths[1].read_bytes())
        return found

    monkeypatch.setattr(cache, "contents", late)
    with pytest.raises(DataError, match=r"0\.bmp' changed while it was read; start again"):
        cache.pixels(some, 8)
    monkeypatch.undo()
    assert np.array_equal(cache.pixels(some, 8).images, expected(some))


def test_few_unreadable_images_are_skipped_and_counted(tmp_path, caplog):
    some = images(tmp_path / "i", 201)
    some.paths[7].write_bytes(b"no image")
    some.paths[100].write_bytes(some.paths[100].read_bytes()[:200])
    for _ in range(2):  # made, then read back
        caplog.clear()
        found = cache.pixels(some, 8)
        assert found.skipped == (7, 100)
        assert found.positions.tolist() == [i for i in range(201) if i not in (7, 100)]
        assert found.images.shape == (199, 8, 8, 3)
        assert np.array_equal(
            found.images[99], preprocess(read_image(some.paths[101]), Preprocess(8))
        )
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
        with pytest.raises(DataError, match=rf"3\.png'.*; repair or delete the {what},"):
            look()


def test_a_file_name_that_is_no_utf_8_is_as_good_as_any(tmp_path, settled):
    some = images(tmp_path / "i")
    odd = Path(os.fsdecode(os.fsencode(tmp_path / "i") + b"/caf\xe9.png"))
    some.paths[3].rename(odd)
    renamed = replace(some, paths=(*some.paths[:3], odd, some.paths[4]))
    for _ in range(2):
        assert cache.pixels(renamed, 8).images.shape == (5, 8, 8, 3)
    assert renamed.digest() != renamed.subset(np.array([0, 1, 2, 4])).digest()


def test_a_cache_that_cannot_be_written_is_a_storage_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("UDA_CACHE", str(tmp_path / "file"))
    some = images(tmp_path / "i")
    with pytest.raises(StorageError, match="cannot write"):
        cache.pixels(some, 8)
    assert some.digest()  # which only takes longer without a cache


def test_a_cache_that_cannot_be_written_is_reported_once(monkeypatch, tmp_path, caplog, settled):
    monkeypatch.delenv("UDA_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    (tmp_path / "file").write_text("")
    for folder in ("i", "j"):
        some = images(tmp_path / folder)
        assert some.digest() == some.digest()
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "read again" in warning and "UDA_CACHE" in warning


def test_the_cache_lies_in_the_home_folder_unless_told(monkeypatch, tmp_path):
    monkeypatch.delenv("UDA_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert home.folder() == tmp_path / ".cache" / "uda-adapt"
    monkeypatch.setenv("UDA_CACHE", "~/pictures")
    assert home.folder() == tmp_path / "pictures"
