"""What tells image sets apart: contents and labels, and the names that old files know."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adapt.data import digests
from adapt.data.base import ImageSet
from adapt.data.folder import read_folder


@pytest.fixture
def some(tmp_path: Path, uda_cache: Path, monkeypatch: pytest.MonkeyPatch) -> ImageSet:
    """Two classes of two images, all of one size."""
    monkeypatch.setenv("UDA_CACHE", str(tmp_path / "cache"))
    for number, name in enumerate(("cup/0", "cup/1", "dog/0", "dog/1")):
        path = tmp_path / "street" / "day" / f"{name}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (50 * number, 0, 0)).save(path)
    return read_folder(tmp_path / "street" / "day", "day")


def of_before(images: ImageSet) -> str:
    """Return the digest as artifacts of schema 1 have it: of names, sizes and labels."""
    digest = hashlib.sha256()
    for path, label in zip(images.paths, images.labels, strict=True):
        name = "/".join(path.parts[-3:])
        digest.update(f"{name}\t{path.stat().st_size}\t{label}\n".encode())
    return digest.hexdigest()


def test_the_same_images_are_the_same_wherever_they_lie(some: ImageSet, tmp_path: Path) -> None:
    before = some.digest()
    for path in some.paths:
        os.utime(path, ns=(1, 1))
    assert some.digest() == before
    shutil.copytree(tmp_path / "street", tmp_path / "elsewhere" / "s")
    (tmp_path / "elsewhere" / "s" / "day").rename(tmp_path / "elsewhere" / "s" / "noon")
    copied = read_folder(tmp_path / "elsewhere" / "s" / "noon", "noon")
    assert copied.digest() != before and digests.same(copied.digest(), before)


def test_every_change_of_images_or_labels_shows(some: ImageSet) -> None:
    before, seen = some.digest(), set()
    others = [
        replace(some, labels=np.array([0, 0, 1, 0])),
        replace(some, labels=np.array([1, 1, 0, 0])),
        replace(some, labels=np.array([0, 0, 1, -1])),
        replace(some, paths=some.paths[::-1]),
        some.subset(np.array([0, 1, 2])),
        some.subset(np.array([], np.int64)),
    ]
    for other in others:
        seen.add(other.digest())
        assert not digests.same(before, other.digest())
    first, second = some.paths[0], some.paths[3]
    time = first.stat().st_mtime_ns
    first.rename(first.with_suffix(".t"))
    second.rename(first)
    first.with_suffix(".t").rename(second)
    os.utime(first, ns=(time, time))
    os.utime(second, ns=(time, time))
    assert not digests.same(before, some.digest())
    seen.add(some.digest())
    assert len(seen) == len(others) + 1


def test_a_digest_of_before_knows_unchanged_images(some: ImageSet) -> None:
    old = of_before(some)
    assert digests.check(old) == old and digests.same(old, old)
    assert digests.same(old, some.digest()) and digests.same(some.digest(), old)
    other = replace(some, labels=np.array([0, 1, 1, 1]))
    assert not digests.same(old, other.digest()) and not digests.same(other.digest(), old)


@pytest.mark.parametrize(
    "value",
    [
        "", "0" * 63, "0" * 65, "g" * 64, "content:" + "0" * 64, "names:" + "0" * 64,
        f"names:{'0' * 64} content:{'0' * 64}", f"content:{'0' * 64} names:{'0' * 63}",
        f"content:{'0' * 64} names:{'0' * 64} ", f"other:{'0' * 64} names:{'0' * 64}",
        f"content:{'0' * 64} names:{'0' * 64} names:{'0' * 64}",
    ],
)  # fmt: skip
def test_what_is_not_a_digest_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="digest"):
        digests.check(value)


@pytest.mark.parametrize("value", [None, 3, "", "content:", "names", ["0" * 64]])
def test_a_digest_is_never_the_same_as_something_else(value: object) -> None:
    known = digests.join("1" * 64, "2" * 64)
    assert not digests.same(value, known) and not digests.same(known, value)
