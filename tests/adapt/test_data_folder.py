import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adapt.clip.captions import class_prompts
from adapt.data import load_folders
from adapt.data.base import ImageSet, split
from runtime.errors import DataError, TaskError


def picture(path, size=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {".gif": "GIF", ".jpeg": "JPEG", ".jpg": "JPEG"}.get(path.suffix.lower())
    Image.new("RGB", size, (200, 10, 10)).save(path, kind)


@pytest.fixture
def root(tmp_path):
    """Two domains with three classes of four images."""
    for domain in ("Art", "Real World"):
        for name in ("mug", "Bike", "alarm_clock"):
            for number in range(4):
                picture(tmp_path / "shop" / domain / name / f"{number}.jpg")
    return tmp_path / "shop"


def test_classes_are_sorted_by_name_and_labels_follow(root):
    pair = load_folders(root, "Art", "Real World")
    assert pair.task.classes == ("Bike", "alarm_clock", "mug")
    for images in (pair.source, pair.target, pair.test):
        assert images.classes == pair.task.classes
        assert [p.parent.name for p in images.paths] == [images.classes[i] for i in images.labels]
        assert len(images) == 12 and images.labelled


def test_prompts_follow_the_labels_also_where_cases_sort_apart():
    # CMKD's code sorts prompts without case and folders with it: DomainNet's bug.
    classes = ("The_Mona_Lisa", "aircraft_carrier", "zebra")
    assert class_prompts(classes, "a photo of a {}") == (
        "a photo of a the mona lisa",
        "a photo of a aircraft carrier",
        "a photo of a zebra",
    )


def test_two_classes_with_one_caption_are_refused():
    with pytest.raises(DataError, match="'Mug' and 'mug' have the same caption 'a mug'"):
        class_prompts(("Mug", "key", "mug"), "a {}")


def test_the_task_is_named_after_the_folders(root):
    task = load_folders(root, "Art", "Real World").task
    assert (task.id, task.dataset) == ("art-real_world", "shop")
    assert (task.source, task.target) == ("Art", "Real World")


@pytest.mark.parametrize(
    ("name", "short"), [("web-cam", "web_cam"), ("a (1)", "a__1_"), ("v.2", "v.2")]
)
def test_characters_that_ids_do_not_have_become_underscores(root, name, short):
    (root / "Real World").rename(root / name)
    assert load_folders(root, "Art", name).task.id == f"art-{short}"


def test_a_name_that_makes_no_id_is_a_task_error(root):
    same = load_folders(root, "Art", f"../{root.name}/Real World")
    assert same.task == load_folders(root, "Art", "Real World").task
    (root / "Art").rename(root / ("a" * 250))
    with pytest.raises(TaskError, match="cannot form a task"):
        load_folders(root, "a" * 250, "Real World")


def test_without_a_holdout_the_target_is_the_test_set(root):
    pair = load_folders(root, "Art", "Real World")
    assert pair.test is pair.target and not pair.held_out


def test_a_holdout_splits_the_target_by_seed_without_overlap(root):
    pair = load_folders(root, "Art", "Real World", holdout=0.25, seed=3)
    everything = load_folders(root, "Art", "Real World").target
    assert pair.held_out and (len(pair.target), len(pair.test), len(pair.source)) == (9, 3, 12)
    assert sorted([*pair.target.paths, *pair.test.paths]) == list(everything.paths)
    chosen = np.sort(np.random.default_rng(3).permutation(12)[:3])
    assert pair.test.paths == tuple(everything.paths[i] for i in chosen)
    assert pair.test.labels.tolist() == everything.labels[chosen].tolist()
    same = load_folders(root, "Art", "Real World", holdout=0.25, seed=3)
    other = load_folders(root, "Art", "Real World", holdout=0.25, seed=4)
    assert pair.test.paths == same.test.paths != other.test.paths


def test_the_supervised_bound_never_trains_on_what_it_is_tested_on(root):
    pair = load_folders(root, "Art", "Art", holdout=0.5)
    assert pair.task.id == "art-art"
    assert not set(pair.source.paths) & set(pair.test.paths)
    assert pair.source.paths == pair.target.paths


def test_each_side_of_a_split_gets_an_image():
    images = ImageSet(("a", "b", "c"), np.arange(3), ("x", "y", "z"), "d")
    for holdout in (0.001, 0.999):
        train, test = split(images, holdout, 0)
        assert len(train) and len(test) and len(train) + len(test) == 3


def test_one_image_cannot_be_split():
    with pytest.raises(
        DataError, match="holding out needs two: add images, or pass --set holdout=0"
    ):
        split(ImageSet(("a",), np.zeros(1, np.int64), ("x", "y"), "d"), 0.5, 0)


def test_a_target_without_class_folders_is_unlabelled(root):
    for number in range(5):
        picture(root / "camera" / f"{number}.png")
    pair = load_folders(root, "Art", "camera", holdout=0.4)
    assert pair.target.labels.tolist() == [-1, -1, -1] and not pair.target.labelled
    assert pair.target.classes == pair.test.classes == pair.source.classes


def test_a_source_without_class_folders_is_refused(root):
    picture(root / "camera" / "1.png")
    with pytest.raises(DataError, match=r"camera' has images but no class folders"):
        load_folders(root, "camera", "Art")


def test_every_usual_image_type_is_found_in_any_case_also_in_subfolders(tmp_path):
    names = "a.jpg b.JPG c.jpeg d.PNG e.bmp f.webp g.tif h.TIFF i.gif deep/er/j.png".split()
    for domain in ("a", "b"):
        for name in names:
            picture(tmp_path / domain / "cup" / name)
            picture(tmp_path / domain / "key" / name)
        for ignored in ("notes.txt", ".hidden.jpg", ".cache/x.jpg", "no_suffix"):
            path = tmp_path / domain / "cup" / ignored
            path.parent.mkdir(exist_ok=True)
            path.write_text("x")
        (tmp_path / domain / ".git").mkdir()
    source = load_folders(tmp_path, "a", "b").source
    assert source.labels.tolist() == [0] * len(names) + [1] * len(names)
    found = [str(p.relative_to(tmp_path / "a" / "cup")) for p in source.paths[: len(names)]]
    assert sorted(found) == sorted(names)


def test_order_does_not_depend_on_the_order_of_creation(tmp_path):
    for domain, numbers in (("a", range(20)), ("b", reversed(range(20)))):
        for number in numbers:
            for name in ("key", "cup"):
                picture(tmp_path / domain / name / f"{number:02}.png")
    pair = load_folders(tmp_path, "a", "b")
    assert [p.name for p in pair.source.paths] == [p.name for p in pair.target.paths]
    assert [p.name for p in pair.source.paths[:20]] == [f"{n:02}.png" for n in range(20)]


def test_different_class_sets_show_what_each_side_alone_has(root):
    (root / "Real World" / "mug").rename(root / "Real World" / "Mug")
    picture(root / "Art" / "zebra" / "1.png")
    with pytest.raises(DataError) as caught:
        load_folders(root, "Art", "Real World")
    message = str(caught.value)
    assert "only source 'Art' has 'mug', 'zebra'" in message
    assert "only target 'Real World' has 'Mug'" in message


def test_a_long_difference_is_cut(root):
    for number in range(9):
        picture(root / "Art" / f"extra{number}" / "1.png")
    with pytest.raises(DataError, match=r"'extra4' and 4 more; give both"):
        load_folders(root, "Art", "Real World")


def test_empty_class_folders_are_named(root):
    for name in ("empty", "void"):
        (root / "Art" / name).mkdir()
    (root / "Art" / "void" / "readme.txt").write_text("x")
    with pytest.raises(DataError, match=r"Art' has class folders without images: 'empty', 'void'"):
        load_folders(root, "Art", "Real World")


def test_one_class_is_refused(tmp_path):
    for domain in ("a", "b"):
        picture(tmp_path / domain / "cup" / "1.png")
    with pytest.raises(DataError, match="has only the class 'cup'"):
        load_folders(tmp_path, "a", "b")


@pytest.mark.parametrize("inside", [[], ["cup", "key"]])
def test_a_domain_without_images_is_refused(root, inside):
    (root / "bare").mkdir()
    for name in inside:
        (root / "bare" / name).mkdir()
    with pytest.raises(DataError, match=r"bare' holds no images \(\.bmp"):
        load_folders(root, "Art", "bare")


def test_images_beside_class_folders_are_refused(root):
    picture(root / "Real World" / "stray.png")
    with pytest.raises(DataError, match=r"1 image beside its 3 class folders, .*'stray\.png'"):
        load_folders(root, "Art", "Real World")


def test_an_unknown_domain_lists_the_domains(root):
    with pytest.raises(DataError, match=r"Clipart' does not exist; available: Art, Real World"):
        load_folders(root, "Art", "Clipart")


def test_of_many_folders_some_are_named(root):
    for number in range(30):
        (root / f"x{number:02}").mkdir()
    with pytest.raises(DataError, match=r"x16, x17 and 12 more$"):
        load_folders(root, "Art", "Clipart")


def test_a_list_of_another_kind_says_how_lists_end(root):
    with pytest.raises(DataError, match=r"day\.csv' does not exist; a list file ends in \.txt;"):
        load_folders(root, "day.csv", "Art")


def test_a_file_instead_of_a_domain_is_refused(root):
    (root / "file").write_text("x")
    with pytest.raises(DataError, match=r"file' is a file"):
        load_folders(root, "file", "Art")


def test_a_missing_root_is_refused(tmp_path):
    with pytest.raises(DataError, match="has no folders; check --data"):
        load_folders(tmp_path / "nowhere", "a", "b")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="has no folders; check --data"):
        load_folders(tmp_path / "file", "a", "b")


def test_absolute_domains_have_ids_that_tell_them_apart(images: Path, tmp_path: Path) -> None:
    inside = load_folders(images, str(images / "day"), f"{images}/./night/")
    assert inside.task == load_folders(images, "day", "night").task
    for parent in ("a", "b"):
        shutil.copytree(images / "night", tmp_path / parent / "night")
    ids = set()
    for parent in ("a", "b"):
        task = load_folders(images, "day", str(tmp_path / parent / "night")).task
        assert re.fullmatch("day-night_[0-9a-f]{8}", task.id)
        assert (task.source, task.target) == ("day", "night")
        ids.add(task.id)
    assert len(ids) == 2
    both = load_folders(images, str(tmp_path / "a" / "night"), f"{tmp_path}/b/night").task
    assert (both.source, both.target) == ("a/night", "b/night")
