"""MNIST, USPS and SVHN from miniatures of their original files."""

import bz2
import gzip
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from adapt import data
from adapt.clip.captions import class_prompts
from adapt.data import digit_files
from adapt.data.digits import Digits, unpack
from runtime.errors import ConfigError, DataError
from tests.adapt.digit_originals import LABELS, pictures, write_mnist, write_svhn, write_usps


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UDA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path):
    write_mnist(tmp_path / "digits" / "MNIST" / "raw", pack=True)
    write_usps(tmp_path / "digits" / "usps")
    write_svhn(tmp_path / "digits")
    return tmp_path / "digits"


@pytest.mark.parametrize("task", ["s-m", "u-m", "m-u", "u-u"])
def test_official_splits_are_kept_apart(task, root):
    pair = data.load("digits", task, root=root)
    assert pair.held_out and pair.task.classes == tuple("0123456789")
    assert sorted(pair.source.labels) == sorted(pair.target.labels) == sorted(LABELS["train"])
    assert sorted(pair.test.labels) == sorted(LABELS["test"])
    prompts = class_prompts(pair.task.classes, 'a photo of the number: "{}".')
    assert prompts[7] == 'a photo of the number: "7".'


@pytest.mark.parametrize(
    ("short", "side", "channels"), [("m", 28, ()), ("u", 16, ()), ("s", 32, (3,))]
)
def test_every_picture_is_the_original(short, side, channels, root):
    part = Digits().read(root, short)
    for split, images in part.splits().items():
        expected = pictures(split, side, channels)
        for path, label in zip(images.paths, images.labels, strict=True):
            number = int(path.stem)
            assert label == LABELS[split][number]
            assert np.array_equal(np.asarray(Image.open(path)), expected[number])


def test_plain_and_packed_files_are_the_same(tmp_path):
    write_mnist(tmp_path / "plain")
    write_mnist(tmp_path / "packed", pack=True)
    plain = digit_files.mnist(
        tmp_path / "plain" / "train-images-idx3-ubyte",
        tmp_path / "plain" / "train-labels-idx1-ubyte",
    )
    packed = digit_files.mnist(
        tmp_path / "packed" / "train-images-idx3-ubyte.gz",
        tmp_path / "packed" / "train-labels-idx1-ubyte.gz",
    )
    assert np.array_equal(plain[0], packed[0]) and plain[1].tolist() == LABELS["train"]


def test_pictures_are_unpacked_once_and_again_when_files_change(root, own_cache):
    first = data.load("digits", "m-u", root=root)
    times = {path: path.stat().st_mtime_ns for path in first.source.paths}
    again = data.load("digits", "m-u", root=root)
    assert {path: path.stat().st_mtime_ns for path in again.source.paths} == times
    LABELS["train"][0] = 6
    try:
        write_mnist(root / "MNIST" / "raw", pack=True)
    finally:
        LABELS["train"][0] = 5
    changed = data.load("digits", "m-u", root=root).source
    assert 6 in changed.labels and changed.paths[0].parent.parent != first.source.paths[0].parent


READ = """
import pathlib, sys
from adapt.data.digits import Digits, unpack

print("ready", flush=True)
sys.stdin.read()
for path in Digits().read(pathlib.Path(sys.argv[1]), "u").train.paths:
    print(path, path.stat().st_ino)
"""


def test_processes_that_unpack_at_once_share_one_folder(root, own_cache):
    words = [sys.executable, "-c", READ, str(root)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    workers = [subprocess.Popen(words, **pipes) for _ in range(2)]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        worker.stdin.close()
    found = [worker.stdout.read() for worker in workers]
    for worker in workers:
        worker.stdout.close()
        assert worker.wait(60) == 0
    assert found[0] == found[1] and found[0].count("\n") == 8
    names = sorted(path.name.rsplit("-", 1)[0] for path in (own_cache / "digits").iterdir())
    assert names == ["usps-test", "usps-train"]


@pytest.mark.parametrize("harm", ["lost", "flipped", "another's", "moved", "more", "note", "empty"])
def test_damaged_pictures_are_unpacked_again(harm, root, own_cache, caplog):
    images = data.load("digits", "m-u", root=root).source
    before = {path: path.read_bytes() for path in images.paths}
    first, last = images.paths[0], images.paths[-1]
    if harm == "lost":
        first.unlink()
    elif harm == "flipped":
        content = bytearray(before[first])
        content[len(content) // 2] ^= 1
        first.write_bytes(content)
    elif harm == "another's":
        first.write_bytes(before[last])
    elif harm == "moved":
        first.rename(last.with_name(f"{'0' * 8}.png"))
    elif harm == "more":
        (first.parent / "more.png").write_bytes(before[last])
    elif harm == "note":
        (first.parent.parent / "DONE.txt").write_text("8")
    else:
        for path in before:
            path.unlink()
    again = data.load("digits", "m-u", root=root).source
    assert {path: path.read_bytes() for path in again.paths} == before
    assert again.labels.tolist() == images.labels.tolist()
    assert caplog.text.count("are damaged and are made again") == 1
    assert not [path for path in (own_cache / "digits").iterdir() if path.suffix == ".tmp"]


def test_a_survey_counts_without_unpacking(root, own_cache):
    counts = Digits().survey(root, "s")
    assert counts["train"]["9"] == 2 and counts["train"].total() == 8
    assert counts["test"].total() == 4 and counts["test"]["9"] == 0
    assert not own_cache.exists()


def test_a_missing_file_is_named(root):
    (root / "usps" / "usps.t.bz2").unlink()
    with pytest.raises(DataError, match=r"'usps\.t' of usps not found, .* LIBSVM"):
        data.load("digits", "m-u", root=root)


@pytest.mark.parametrize("cut", [0, 7, 100])
@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("m-u", "MNIST/raw/train-images-idx3-ubyte.gz"),
        ("m-u", "MNIST/raw/train-labels-idx1-ubyte.gz"),
        ("u-m", "usps/usps.bz2"),
        ("s-m", "train_32x32.mat"),
    ],
)
def test_a_truncated_file_is_named(task, name, cut, root):
    path = root / name
    path.write_bytes(path.read_bytes()[: -1 if cut == 100 else cut])
    with pytest.raises(
        DataError, match=rf"{path.name}' is not a valid original file.*; download it"
    ):
        data.load("digits", task, root=root)


def test_files_that_disagree_are_refused(root):
    raw = root / "MNIST" / "raw"
    test = (raw / "t10k-labels-idx1-ubyte.gz").read_bytes()
    (raw / "train-labels-idx1-ubyte.gz").write_bytes(test)
    with pytest.raises(DataError, match="8 pictures and 4 labels"):
        data.load("digits", "m-u", root=root)


def test_labels_that_are_no_digits_are_refused(root):
    images = np.zeros((32, 32, 3, 2), np.uint8)
    savemat(root / "train_32x32.mat", {"X": images, "y": np.array([[3], [11]], np.uint8)})
    with pytest.raises(DataError, match="labels are not digits"):
        data.load("digits", "s-m", root=root)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([["one"], ["two"]], object), "'y' is not numeric; download it again"),
        (np.array([[1.5], [2.0]]), "labels are not whole numbers; download it again"),
        (np.array([[np.inf], [2.0]]), "labels are not whole numbers; download it again"),
    ],
)
def test_labels_that_are_no_numbers_are_refused(labels, message, root):
    savemat(root / "train_32x32.mat", {"X": np.zeros((32, 32, 3, 2), np.uint8), "y": labels})
    with pytest.raises(DataError, match=message):
        data.load("digits", "s-m", root=root)


def test_a_file_that_crashes_its_reader_is_one_clear_line(root):
    path = root / "train_32x32.mat"
    savemat(path, {"X": np.zeros((4, 4, 3, 3), np.uint8), "y": np.ones((3, 1), np.uint8)})
    content = bytearray(path.read_bytes())
    content[145] = 255  # SciPy 1.17 reads beyond its memory
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"no MATLAB 5 file with 'X' and 'y': .*; download it") as e:
        data.load("digits", "s-m", root=root)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("position", "word", "message"),
    [
        (0, b"1.5", "labels are not whole numbers"),
        (0, b"x", "no lines of a label"),
        (8, b"8:nan", "not finite"),
    ],
)
def test_usps_numbers_that_make_no_sense_are_refused(position, word, message, root):
    path = root / "usps" / "usps.bz2"
    words = bz2.decompress(path.read_bytes()).split(b" ")
    words[position] = word
    path.write_bytes(bz2.compress(b" ".join(words)))
    with pytest.raises(DataError, match=message):
        data.load("digits", "u-m", root=root)


def test_a_packed_file_larger_than_any_original_is_not_unpacked(root):
    path = next(root.rglob("train-images-idx3-ubyte*"))
    path.unlink()
    with gzip.open(path.with_name("train-images-idx3-ubyte.gz"), "wb", 1) as stream:
        for _ in range(65):
            stream.write(bytes(2**20))
    with pytest.raises(DataError, match=f"it unpacks to more than {2**26} bytes; download it"):
        data.load("digits", "m-u", root=root)


def test_other_pictures_than_colour_ones_are_refused(root):
    savemat(root / "train_32x32.mat", {"X": np.zeros((4, 32, 32)), "y": np.ones((4, 1))})
    with pytest.raises(DataError, match=r"'X' is float64 \(4, 32, 32\), not uint8"):
        data.load("digits", "s-m", root=root)


def test_a_holdout_is_refused(root):
    with pytest.raises(ConfigError, match="'digits' has a test split of its own"):
        data.load("digits", "m-u", root=root, holdout=0.2)


def test_an_original_that_cannot_be_read_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="cannot read .*; check its permissions, or get it again"):
        unpack("usps", "train", (tmp_path,))  # a folder: no reader may read one
