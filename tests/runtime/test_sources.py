"""Which files words of a command line stand for, and their frames."""

import os
import sys
import unicodedata

import numpy as np
import pytest
from PIL import Image

from runtime.frames import opencv
from runtime.frames.preprocess import read_image
from runtime.sources import SOURCES, open_inputs
from runtime.sources.images import Images
from runtime.sources.select import select


def picture(path, value=0, size=(8, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, 10, 20)).save(path)
    return path


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """Two classes, a nested folder and clutter; the working folder is the one above."""
    for number, name in enumerate(("cup/a.png", "cup/deep/b.png", "key/a.png", "loose.png")):
        picture(tmp_path / "shop" / name, number)
    picture(tmp_path / "shop/@eaDir/cup/a.png")
    (tmp_path / "shop/notes.txt").write_text("x")
    os.symlink("..", tmp_path / "shop/cup/up")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "shop"


def names(selection):
    return [given.name for given in selection.inputs]


def error(selection):
    (given,) = selection.inputs
    return str(given.error)


def test_a_folder_gives_its_images_and_says_what_is_left_out(shop):
    found = select(["shop"])
    assert names(found) == ["shop/loose.png"]
    assert found.summary == (
        "1 image; left out 2: .txt 1, thumbnails 1; 2 folders not entered (--recursive enters them)"
    )


def test_recursive_takes_what_training_takes(shop):
    found = select(["shop/"], recursive=True)
    assert names(found) == [
        "shop/cup/a.png", "shop/cup/deep/b.png", "shop/key/a.png", "shop/loose.png",
    ]  # fmt: skip
    assert [given.saved_as for given in found.inputs] == [
        "cup/a.png", "cup/deep/b.png", "key/a.png", "loose.png",
    ]  # fmt: skip
    assert [given.labels for given in found.inputs] == [
        ("cup", "shop"), ("cup", "deep", "shop"), ("key", "shop"), ("shop",),
    ]  # fmt: skip
    assert found.summary == (
        "4 images; left out 3: .txt 1, links to a folder above 1, thumbnails 1"
    )


def test_files_of_one_name_are_saved_apart(shop):
    for words in (["shop/cup", "shop/key"], ["shop/cup/a.png", "shop/key/a.png"]):
        assert [given.saved_as for given in select(words).inputs] == ["cup/a.png", "key/a.png"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("shop/*/a.png", ["shop/cup/a.png", "shop/key/a.png"]),
        ("shop/**/*.png", [f"shop/{n}.png" for n in ("cup/a", "cup/deep/b", "key/a", "loose")]),
        ("shop/c*/**", ["shop/cup/a.png", "shop/cup/deep/b.png"]),
        ("**/[ab].png", [f"shop/{n}.png" for n in ("cup/a", "cup/deep/b", "key/a")]),
        ("sh?p/l*", ["shop/loose.png"]),
    ],
)
def test_a_pattern_that_no_shell_expanded_is_expanded(shop, pattern, expected):
    assert names(select([pattern])) == expected


def test_what_a_pattern_matches_is_left_out_by_the_rules_of_folders(shop):
    found = select(["shop/*"])
    assert names(found) == ["shop/cup/a.png", "shop/key/a.png", "shop/loose.png"]
    assert [given.labels for given in found.inputs] == [("cup",), ("key",), ("shop",)]
    (nested,) = select(["shop/**/b.png"]).inputs
    assert nested.labels == ("cup", "deep", "shop") and nested.saved_as == "cup/deep/b.png"
    assert "left out 2: .txt 1, thumbnails 1" in found.summary


def test_a_file_whose_name_is_a_pattern_is_that_file(shop):
    picture(shop / "[1].png")
    assert names(select(["shop/[1].png"])) == ["shop/[1].png"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["shop/*.jpg"], "no file matches 'shop/*.jpg'; check the pattern"),
        (["shop/n*"], "'shop/n*' matches no images or videos; left out: .txt 1"),
        (["empty"], "'empty' holds no images or videos"),
        (["."], "'.' holds no images or videos; it has 2 folders, which --recursive enters"),
        (["nothing.txt"], "cannot read the list 'nothing.txt': No such file or directory"),
        (["shop/notes.txt"], "names 1 image, none of which exists, the first: 'shop/x'; give it"),
        ([""], "expected a path, found an empty word"),
    ],
)
def test_a_word_that_gives_nothing_is_one_error(shop, words, message):
    (shop.parent / "empty").mkdir()
    assert message in error(select(words))


def test_what_is_found_again_is_taken_once(shop):
    found = select(["shop/key/a.png", "shop/*/a.png", "shop/key", str(shop / "key/a.png")])
    assert names(found) == ["shop/key/a.png", "shop/cup/a.png"]
    assert found.summary == "2 images; nothing left out; 3 found again and taken once"


def test_files_alone_need_no_summary(shop):
    found = select(["shop/loose.png", "missing.png", "notes.pdf"])
    assert found.summary == "" and len(found.inputs) == 3
    assert found.inputs[0].labels == ("shop",)


def test_a_list_is_relative_to_its_folder_and_gives_labels(shop):
    (shop / "list.txt").write_text("cup/a.png key\n../shop/loose.png cup\nlost.png key\n")
    found = select(["shop/list.txt"])
    assert names(found) == ["shop/cup/a.png", "shop/loose.png", "shop/lost.png"]
    assert [given.labels for given in found.inputs] == [("key",), ("cup",), ("key",)]
    assert [given.saved_as for given in found.inputs] == ["cup/a.png", "loose.png", "lost.png"]
    assert found.lists == ("shop/list.txt", "shop/classes.txt")


def test_a_list_may_have_absolute_paths_and_no_labels(shop):
    (shop / "list.txt").write_text(f"{shop}/cup/a.png\nloose.png\n")
    found = select(["shop/list.txt"])
    assert names(found) == [f"{shop}/cup/a.png", "shop/loose.png"]
    assert [given.labels for given in found.inputs] == [("cup",), ("shop",)]


def test_some_lines_of_a_list_may_have_labels(shop):
    (shop / "list.txt").write_text("cup/a.png\nloose.png alarm clock\nloose.png -1\n")
    found = select(["shop/list.txt"])
    assert [given.labels for given in found.inputs] == [("cup",), ("alarm clock",)]
    assert found.notes == ()


def test_numbers_are_translated_by_names_beside_the_list(shop):
    (shop / "list.txt").write_text("loose.png 1\ncup/a.png 0\n")
    assert select(["shop/list.txt"]).notes[0].startswith("no accuracy for 'shop/list.txt': the lab")
    (shop / "classes.txt").write_text("cup\nmug\n")
    found = select(["shop/list.txt"])
    assert [given.labels for given in found.inputs] == [("mug",), ("cup",)] and not found.notes


def test_names_are_compared_in_composed_letters(shop):
    name = unicodedata.normalize("NFD", "clé")
    picture(shop / name / "a.png")
    assert select([f"shop/{name}"]).inputs[0].labels == ("clé",)


def test_frames_come_in_order_and_errors_in_their_place(shop):
    for number in range(60):
        picture(shop / f"many/{number:02}.png", number)
    (shop / "many/30.png").write_bytes(b"x")
    selection = select(["shop/many", "shop/missing.png", "shop/*.jpg"])
    with open_inputs(selection.inputs, "white") as source:
        assert source.count == 62
        items = list(source)
    assert [item.name for item in items] == names(selection)
    for number, item in enumerate(items[:60]):
        if number == 30:
            assert "cannot read the image 'shop/many/30.png'" in str(item.error)
        else:
            np.testing.assert_array_equal(item.frame, read_image(item.name))
    assert [item.frame is None for item in items[60:]] == [True, True]


def test_transparent_pixels_have_the_background(shop):
    Image.new("RGBA", (4, 4)).save(shop / "clear.png")
    for background, value in (("white", 255), ("black", 0)):
        with Images(select(["shop/clear.png"]).inputs, background) as source:
            (item,) = source
        assert (item.frame == value).all()


def test_closing_early_ends_the_threads(shop):
    for number in range(300):
        picture(shop / f"many/{number}.png")
    with open_inputs(select(["shop/many"]).inputs, "white") as source:
        next(iter(source))
    source.close()


def test_the_table_names_classes_that_exist():
    for entry in SOURCES.values():
        module, _, name = entry.source.partition(":")
        assert hasattr(__import__(module, fromlist=[name]), name)


def test_videos_are_left_out_of_folders_without_opencv(shop, monkeypatch):
    (shop / "clip.mp4").write_bytes(b"x")
    assert "1 video" in select(["shop"]).summary
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert not opencv.available()
    found = select(["shop"])
    assert "left out 3: .mp4 1," in found.summary
    assert found.notes == ("videos are left out; install the extra [camera] to read them",)
    with open_inputs(select(["shop/clip.mp4"]).inputs, "white") as source:
        (item,) = source
    assert "install the extra [camera], for example: pip install '.[camera]'" in str(item.error)
