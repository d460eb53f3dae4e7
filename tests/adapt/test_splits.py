"""Folders with splits, and labelled test images of one's own."""

import json
import os
import shutil

import pytest
from click.testing import CliRunner

from adapt.artifacts.artifact import Artifact
from adapt.cli import main
from adapt.data import load_folders
from adapt.data.folder import with_test
from adapt.data.own_domains import read_test
from adapt.data.splits import Splits, recognised
from runtime.errors import ConfigError, DataError
from tests.adapt.odd_world import CLASSES, domain, picture

MODEL = ("--method", "zero_shot", "--set", "model=demo-rn32", "--set", "pretrained=demo")


@pytest.fixture
def root(tmp_path):
    """Domains `day` and `night` with three splits, and `fog` without."""
    for name in ("day", "night"):
        for split, count in (("train", 3), ("val", 2), ("test", 1)):
            domain(tmp_path / "shop" / name, split, count)
    domain(tmp_path / "shop", "fog", 2)
    return tmp_path / "shop"


def call(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def parents(images):
    return {path.parents[1].name for path in images.paths}


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (("test", "train", "val"), Splits("train", "test", ("val",))),
        (("Train", "VAL"), Splits("Train", "VAL", ())),
        (("training", "validation"), Splits("training", "validation", ())),
        (("train",), Splits("train", None, ())),
        (("test", "val"), None),
        (("bus", "train"), None),
        (("train", "training"), None),
        ((), None),
    ],
)
def test_folders_are_splits_only_if_all_of_them_are_called_so(folders, expected):
    assert recognised(folders) == expected


def test_train_trains_and_test_is_the_held_out_test_set(root):
    pair = load_folders(root, "day", "night")
    assert pair.task.id == "day-night" and pair.task.classes == CLASSES and pair.held_out
    assert [parents(images) for images in (pair.source, pair.target, pair.test)] == [
        {"train"},
        {"train"},
        {"test"},
    ]
    assert [len(images) for images in (pair.source, pair.target, pair.test)] == [9, 9, 3]
    assert pair.inventory.line() == (
        "source day/train 9, target night/train 9, held-out test night/test 3 images; "
        "left out 15: unused split val 12, unused split test 3"
    )


def test_without_a_test_split_the_validation_split_is_tested_on(root):
    shutil.rmtree(root / "night" / "test")
    pair = load_folders(root, "fog", "night")
    assert parents(pair.test) == {"val"} and len(pair.test) == 6 and pair.held_out
    shutil.rmtree(root / "night" / "val")
    pair = load_folders(root, "fog", "night")
    assert pair.test is pair.target and not pair.held_out and parents(pair.target) == {"train"}


def test_an_unlabelled_training_split_has_a_labelled_test_split(root):
    shutil.rmtree(root / "night" / "train")
    for number in range(4):
        picture(root / "night" / "train" / f"{number}.png")
    pair = load_folders(root, "day", "night")
    assert not pair.target.labelled and pair.test.labelled and pair.held_out


def test_a_class_called_train_is_a_class(root):
    for name in ("fog", "rain"):
        domain(root, name, 2, ("bus", "train"))
        shutil.rmtree(root / name / "circle", ignore_errors=True)
    pair = load_folders(root, "rain", "rain")
    assert pair.task.classes == ("bus", "train")


def test_a_split_may_be_named_as_a_domain(root):
    pair = load_folders(root, "day/train", "night/val")
    assert pair.task.id == "day_train-night_val" and not pair.held_out


def test_a_holdout_of_a_target_with_a_test_split_is_refused(root):
    with pytest.raises(ConfigError, match=r"test split of its own, 'night/test', so .*holdout=0"):
        load_folders(root, "day", "night", holdout=0.2)


def test_images_beside_splits_are_refused(root):
    picture(root / "day" / "stray.png")
    with pytest.raises(DataError, match=r"1 image beside its split 'train', .*'stray\.png'"):
        load_folders(root, "day", "night")


def test_a_test_split_whose_links_lead_to_training_images_is_not_held_out(root):
    shutil.rmtree(root / "night" / "test")
    os.symlink("train", root / "night" / "test")
    pair = load_folders(root, "day", "night")
    assert not pair.held_out and "test night/test 9" in pair.inventory.line()
    with pytest.raises(DataError, match="9 test images of 'night/test' would be trained on too"):
        load_folders(root, "night", "night")


def test_test_images_may_lack_a_class_and_have_none_of_their_own(root, tmp_path):
    pair = load_folders(root, "fog", "day")
    domain(tmp_path, "few", 1, CLASSES[1:])
    found = with_test(pair, read_test(root, str(tmp_path / "few")), "few", given=True)
    assert found.test.labels.tolist() == [1, 2] and found.given and found.held_out
    assert found.test.classes == pair.task.classes
    domain(tmp_path, "few", 1, ("star",))
    with pytest.raises(DataError, match="'few' has 'star'"):
        with_test(pair, read_test(root, str(tmp_path / "few")), "few")


def test_test_images_need_labels_and_must_exist(root):
    picture(root / "flat" / "0.png")
    with pytest.raises(DataError, match="'flat' have no labels, which --test needs"):
        read_test(root, "flat/")
    with pytest.raises(DataError, match="'gone' not found, neither in"):
        read_test(root, "gone")


def test_data_check_shows_splits_apart(root):
    domain(root / "night", "test", 1, ("star",))
    result = call("data", "check", "--data", root, "--source", "day", "--target", "night")
    row = next(line.split() for line in result.output.splitlines() if line.startswith("night"))
    assert row == ["night", "4", "9", "4"]  # columns that say nothing are left out
    assert "night: has test images only of 1 class: 'star'" in result.output
    assert "night/train (training) and night/test (test): 13 images of 4 classes" in result.output


def test_training_and_eval_take_test_images_of_ones_own(root, tmp_path, uda_cache):
    lines = [f"fog/{name}/{n}.png {name}\n" for name in CLASSES for n in range(2)]
    (root / "fog.txt").write_text("".join(lines))
    where = ("--data", root, "--source", "day/train", "--target", "night/train", "--threads", 1)
    out = tmp_path / "out"
    result = call("train", *where, *MODEL, "--test", "fog.txt", "--artifacts", out)
    assert result.exit_code == 0, result.output
    line = "source day/train 9, target night/train 9, held-out test fog.txt 6 images; nothing left"
    assert f"images     {line} out\n" in result.output
    assert "on 6 held-out target images" in result.output
    folder = out / "shop" / "day_train-night_train" / "zero_shot"
    assert f"images: {line} out" in (folder / "train.log").read_text()
    inventory = Artifact.load(folder / "artifact.safetensors").optional["inventory"]
    assert inventory["source"] == {
        "name": "day/train",
        "images": 9,
        "per_class": {"min": 3, "median": 3, "max": 3},
    }
    assert (
        inventory["test"]["images"] == 6 and inventory["left_out"] == {} and inventory["held_out"]
    )
    shown = call("inspect", folder).output
    rows = [line.split() for line in shown.splitlines()]
    assert ["source", "day/train", "9", *"3 / 3 / 3".split()] in rows
    assert ["test", "fog.txt", "6", *"2 / 2 / 2".split()] in rows
    assert ["left", "out:", "nothing"] in rows
    evaluated = call("eval", *where, "--artifacts", out, "--test", root / "night" / "val",
                     "--json", tmp_path / "eval.json")  # fmt: skip
    assert evaluated.exit_code == 0, evaluated.output
    assert "accuracy on 6 images of 'val', in %" in evaluated.output
    lines = json.loads((tmp_path / "eval.json").read_text())["variants"]
    images = {line["variant"]: line["images"] for line in lines}
    assert images == {"zero_shot": 6, "linear_probe": 6}
    refused = call("eval", *where, "--artifacts", out)
    assert refused.exit_code == 1 and "fog.txt'; pass --test fog.txt, or move" in refused.stderr


def test_a_named_data_set_keeps_its_own_test_images_in_training():
    result = call("train", "--dataset", "demo-digits", "--task", "f-h", "--test", "x")
    assert result.exit_code == 2 and "--test needs images of your own" in result.output
