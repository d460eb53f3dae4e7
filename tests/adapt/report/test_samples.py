"""Samples of classes, and the pictures of a page."""

from __future__ import annotations

import base64
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adapt.data import ImageSet
from adapt.data.base import UNKNOWN
from adapt.report.album import Album, Thumbnail
from adapt.report.samples import SAMPLES, samples


def picture(path: Path, size: tuple[int, int] = (8, 8), colour: object = (200, 10, 10)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = "RGBA" if isinstance(colour, tuple) and len(colour) == 4 else "RGB"
    Image.new(mode, size, colour).save(path)
    return path


def decoded(thumbnail: Thumbnail) -> Image.Image:
    assert thumbnail.uri is not None
    kind, _, text = thumbnail.uri.partition(",")
    assert kind == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(text)))


def images(root: Path, counts: dict[str, int], domain: str = "day") -> ImageSet:
    """Return a domain with so many images of each class; of the class `` without labels."""
    paths, labels, names = [], [], tuple(name for name in counts if name)
    for name, count in counts.items():
        for number in range(count):
            paths.append(picture(root / domain / (name or "loose") / f"{number:02}.png"))
            labels.append(names.index(name) if name else UNKNOWN)
    return ImageSet(tuple(paths), np.array(labels, np.int64), names, domain)


def test_samples_are_evenly_spaced_with_the_first_and_the_last(tmp_path: Path) -> None:
    day, night = images(tmp_path, {"cup": 30, "key": 3}), images(tmp_path, {"cup": 1}, "night")
    rows, count = samples([("a", day), ("b", night)], Album())
    assert count == 2 and [row.name for row in rows] == ["cup", "key"]
    cup, key = rows
    assert [(one.domain, one.images, len(one.samples)) for one in cup.columns] == [
        ("a", 30, SAMPLES), ("b", 1, 1),
    ]  # fmt: skip
    names = [one.name for one in cup.columns[0].samples]
    assert (names[0], names[-1]) == ("day/cup/00.png", "day/cup/29.png")
    assert names == sorted(set(names))
    assert [len(one.samples) for one in key.columns] == [3, 0]


def test_images_without_labels_have_a_row_of_their_own(tmp_path: Path) -> None:
    labelled = images(tmp_path, {"cup": 2, "": 5})
    loose = images(tmp_path, {"": 30}, "fog")
    rows, count = samples([("a", labelled), ("b", loose)], Album(images=False))
    found = [[(one.images, len(one.samples)) for one in row.columns] for row in rows]
    assert count == 2 and [row.name for row in rows] == ["", "cup"]
    assert found == [[(5, 5), (30, 24)], [(2, 2), (None, 0)]]


def test_of_many_classes_some_are_shown_and_all_are_counted(tmp_path: Path) -> None:
    many = images(tmp_path, {f"c{i:03}": 1 for i in range(70)})
    rows, count = samples([("a", many)], Album(images=False), most=12)
    assert (len(rows), count) == (12, 70)


def test_a_thumbnail_keeps_the_aspect_ratio_and_lays_transparency_on_its_background(
    tmp_path: Path,
) -> None:
    wide = picture(tmp_path / "a" / "b" / "wide.png", (300, 100))
    clear = picture(tmp_path / "a" / "b" / "clear.png", (20, 20), (9, 9, 9, 0))
    large, tiny = Album().thumbnails([wide, clear], 90)
    assert decoded(large).size == (90, 30) and not large.tiny
    assert decoded(tiny).size == (20, 20) and tiny.tiny
    assert min(decoded(tiny).getpixel((10, 10))) > 250
    (black,) = Album().thumbnails([clear], 90, "black")
    assert max(decoded(black).getpixel((10, 10))) < 5


def test_a_page_holds_a_bounded_number_of_bytes_and_counts_the_rest(tmp_path: Path) -> None:
    paths = [picture(tmp_path / "a" / "b" / f"{i}.png") for i in range(10)]
    size = len(base64.b64decode(str(Album().thumbnails(paths[:1], 80)[0].uri).partition(",")[2]))
    album = Album(limit=3 * size + 1)
    found = album.thumbnails(paths, 80)
    assert [one.uri is not None for one in found] == [True] * 3 + [False] * 7
    assert (album.shown, album.left_out) == (3, 7)
    assert found[9].problem == "left out of a large page"


@pytest.mark.parametrize("kind", ["missing", "empty", "text", "folder", "pipe", "denied"])
def test_what_cannot_be_read_is_shown_by_name(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "day" / "cup" / "x.png"
    path.parent.mkdir(parents=True)
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind != "missing":
        path.write_bytes(b"GIF" if kind == "text" else b"")
    if kind == "denied":
        path.chmod(0)
    (found,) = Album().thumbnails([path], 80)
    assert found == Thumbnail("day/cup/x.png", problem="cannot be read")


def test_without_images_no_file_is_opened(tmp_path: Path) -> None:
    album = Album(images=False)
    assert album.thumbnails([tmp_path / "a" / "b" / "no.png"], 80) == [Thumbnail("a/b/no.png")]
    assert (album.shown, album.left_out) == (0, 0)
