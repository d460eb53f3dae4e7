"""Every file below a root is taken, or left out for a named reason."""

import os
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from adapt.data import load_folders
from runtime.errors import DataError
from runtime.frames.preprocess import read_image
from runtime.inventory import walk as walks
from runtime.inventory.walk import walk
from tests.adapt.odd_world import CLASSES, HEIC, clutter, domain, picture


@pytest.fixture
def root(tmp_path):
    for name in ("day", "night"):
        domain(tmp_path / "shop", name)
    return tmp_path / "shop"


def test_every_file_is_taken_or_left_out_for_its_reason(root, without_heif):
    clean = load_folders(root, "day", "night").source
    expected = clutter(root / "day")
    pair = load_folders(root, "day", "night")
    assert pair.source.paths == clean.paths
    assert pair.source.labels.tolist() == clean.labels.tolist()
    assert pair.inventory.as_dict()["left_out"] == expected
    entries = sum(len(files) for _, _, files in os.walk(root / "day"))
    linked = sum(path.is_symlink() and path.is_dir() for path in (root / "day").rglob("*"))
    assert len(clean) + expected.total() == entries + linked
    line = pair.inventory.line()
    assert line.startswith("source day 12, target night 12 images; left out 32: thumbnails 6, ")
    assert ".heic 5 (install the extra [heif] to read them)" in line


def test_a_clean_folder_says_that_nothing_is_left_out(root):
    line = load_folders(root, "day", "night").inventory.line()
    assert line == "source day 12, target night 12 images; nothing left out"


def test_files_that_vanish_during_the_walk_end_nothing(root):
    os.symlink("../../night/circle/0.png", root / "day" / "circle" / "link.png")
    os.symlink("gone.png", root / "day" / "circle" / "late.png")
    (root / "day" / "circle" / "gone.png").write_bytes((root / "day/circle/0.png").read_bytes())
    work = walks._Walk(root / "day", recursive=True, also=())
    work.folder(str(root / "day"), "")
    (root / "day" / "circle" / "gone.png").unlink()
    work.follow()
    assert str(root / "day" / "circle" / "link.png") in work.images["circle"]
    assert [(left.path.name, left.reason) for left in work.left_out] == [("late.png", walks.BROKEN)]


def test_a_link_never_gives_an_image_twice_or_another_label(root):
    for link, target in (
        ("day/circle/up", ".."),
        ("day/circle/top", "../../.."),
        ("day/circle/domain", "../../night"),
        ("day/circle/class", "../triangle"),
        ("day/square/deep/up", "../../circle"),
    ):
        (root / link).parent.mkdir(exist_ok=True)
        os.symlink(target, root / link)
    source = load_folders(root, "day", "night").source
    assert len(source) == 12
    for path, label in zip(source.paths, source.labels, strict=True):
        assert path.resolve().parent.name == source.classes[label]
    reasons = {str(a.path.relative_to(root)): a.reason for a in walk(root / "day").left_out}
    assert reasons == {
        "day/circle/up": walks.LOOP,
        "day/circle/top": walks.LOOP,
        "day/circle/domain": walks.CLASSES,
        "day/circle/class": walks.AGAIN,
        "day/square/deep/up": walks.AGAIN,
    }


def test_links_to_images_elsewhere_are_followed_once(root, tmp_path):
    for number in range(3):
        picture(tmp_path / "disk" / "more" / f"{number}.png")
        picture(tmp_path / "disk" / "star" / "inner" / f"{number}.png")
    os.symlink(tmp_path / "disk" / "more", root / "day" / "circle" / "more")
    os.symlink(tmp_path / "disk" / "more", root / "day" / "square" / "more")
    os.symlink(tmp_path / "disk" / "star", root / "day" / "star")
    os.symlink(tmp_path / "disk" / "more" / "0.png", root / "day" / "triangle" / "0 again.png")
    os.symlink(tmp_path / "disk", tmp_path / "disk" / "more" / "loop")
    tree = walk(root / "day")
    counts = {name: len(found) for name, found in tree.images.items()}
    assert counts == {"circle": 7, "square": 4, "triangle": 4, "star": 3}
    assert {left.path.name: left.reason for left in tree.left_out} == {
        "more": walks.AGAIN,
        "0 again.png": walks.AGAIN,
        "loop": walks.LOOP,
    }


def test_a_class_may_be_called_thumbs_and_a_thumbnail_folder_is_no_domain(root):
    for name in ("day", "night"):
        picture(root / name / "thumbs" / "0.png")
    picture(root / "@eaDir" / "circle" / "0.png")
    assert "thumbs" in load_folders(root, "day", "night").task.classes
    with pytest.raises(DataError, match="available: day, night$"):
        load_folders(root, "day", "dusk")


def test_new_endings_are_read_like_the_others(root):
    for name in ("a.jfif", "b.JPE", "c.avif"):
        picture(root / "day" / "circle" / name)
    images = load_folders(root, "day", "night").source
    found = [path for path in images.paths if path.name in ("a.jfif", "b.JPE", "c.avif")]
    assert [read_image(path).shape for path in found] == [(24, 24, 3)] * 3


def test_photographs_of_phones_name_the_extra_that_reads_them(root, without_heif):
    path = root / "day" / "star" / "IMG_1.HEIC"
    path.parent.mkdir()
    path.write_bytes(HEIC)
    advice = r"install the extra \[heif\] to read them"
    with pytest.raises(DataError, match=rf"without images: 'star'; .*\.heic 1 \({advice}\)"):
        load_folders(root, "day", "night")
    with pytest.raises(DataError, match=advice):
        read_image(path)
    (root / "list.txt").write_text("day/star/IMG_1.HEIC\nday/circle/0.png\n")
    pair = load_folders(root, "night", "list.txt")
    assert len(pair.target) == 1 and ".heic 1 (install" in pair.inventory.line()


def test_photographs_of_phones_are_read_with_the_extra(root):
    pillow_heif = pytest.importorskip("pillow_heif")
    image = Image.open(root / "day" / "circle" / "0.png")
    pillow_heif.from_pillow(image).save(root / "day" / "circle" / "IMG_1.HEIC")
    pair = load_folders(root, "day", "night")
    path = next(path for path in pair.source.paths if path.suffix == ".HEIC")
    assert read_image(path).shape == (24, 24, 3) and not pair.inventory.left_out


def test_files_that_nobody_may_read_are_named():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path in ("cup/fine/open.png", "cup/fine/shut.png", "cup/locked/0.png"):
            picture(folder / path)
        folder.chmod(0o755)
        (folder / "cup/fine/shut.png").chmod(0)
        (folder / "cup/locked").chmod(0)
        try:
            with as_nobody():
                tree = walk(folder)
        finally:
            (folder / "cup/locked").chmod(0o700)
    assert tree.images == {"cup": [folder / "cup/fine/open.png"]}
    assert {left.path.name: left.reason for left in tree.left_out} == {
        "locked": walks.UNREADABLE,
        "shut.png": walks.UNREADABLE,
    }


@contextmanager
def as_nobody():
    """Act as a user who is not root, who may read everything."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_list_leaves_out_what_is_no_file_to_read(root):
    os.mkfifo(root / "day" / "circle" / "pipe.png")
    os.symlink("nowhere", root / "day" / "circle" / "gone.png")
    names = ("0", "pipe", "gone")
    lines = [f"day/circle/{name}.png circle\n" for name in names] + ["day/square/0.png square\n"]
    (root / "list.txt").write_text("".join(lines))
    pair = load_folders(root, "list.txt", "list.txt")
    assert [path.name for path in pair.source.paths] == ["0.png", "0.png"]
    assert pair.inventory.as_dict()["left_out"] == {walks.BROKEN: 1, walks.SPECIAL: 1}
    (root / "list.txt").write_text(lines[1])
    with pytest.raises(DataError, match=r"no image .*list\.txt' names can be taken: pipes and"):
        load_folders(root, "list.txt", "day")


def test_a_walk_is_about_as_quick_as_listing_the_files(tmp_path):
    for label in CLASSES:
        (tmp_path / label).mkdir()
        for number in range(300):
            (tmp_path / label / f"{number}.png").touch()

    def seconds(work):
        times = []
        for _ in range(3):
            started = time.perf_counter()
            work()
            times.append(time.perf_counter() - started)
        return min(times)

    listed = seconds(lambda: sorted(path for path in tmp_path.rglob("*") if path.stat()))
    assert seconds(lambda: walk(tmp_path)) < 4 * listed
