"""DomainNet and Mini-DomainNet in miniature: folders with a capital T, split files."""

import pytest

from adapt import data
from adapt.clip.captions import class_prompts
from runtime.errors import DataError
from tests.adapt.pictures import domains, folder_names, names, write_list

NET = ("The_Eiffel_Tower", "The_Mona_Lisa", "aircraft_carrier", "t-shirt", "zebra")


def splits(root, folder, names, train=NET, test=NET):
    """Write split files with label numbers in the order of lower-cased names."""
    for name in names:
        order = sorted(NET, key=str.lower)
        for split, classes, number in (("train", train, 0), ("test", test, 1)):
            lines = [f"{name}/{c}/{number:05}.jpg {order.index(c)}" for c in classes]
            write_list(root / folder / f"{name}_{split}.txt", *lines)


def test_domainnet_without_lists_takes_whole_folders(tmp_path):
    domains(tmp_path / "domainnet", ("clipart", "sketch"), NET)
    pair = data.load("domainnet", "c-s", root=tmp_path)
    assert not pair.held_out and pair.test is pair.target and len(pair.target) == 10


@pytest.mark.parametrize("folder", ["splits", "", "image_list"])
def test_domainnet_splits_keep_test_images_from_training(folder, tmp_path):
    domains(tmp_path, ("clipart", "sketch"), NET)
    splits(tmp_path, folder, ("clipart", "sketch"))
    pair = data.load("domainnet", "c-s", root=tmp_path)
    assert pair.held_out
    assert {path.name for path in (*pair.source.paths, *pair.target.paths)} == {"00000.jpg"}
    assert {path.name for path in pair.test.paths} == {"00001.jpg"}


def test_domainnet_folders_with_a_capital_t_get_their_own_prompts(tmp_path):
    # Prompts sorted without case against folders sorted with it: CMKD's teacher was scrambled.
    domains(tmp_path, ("clipart", "sketch"), NET)
    splits(tmp_path, "splits", ("clipart", "sketch"))
    pair = data.load("domainnet", "c-s", root=tmp_path)
    prompts = class_prompts(pair.task.classes, "a {}")
    for images in (pair.source, pair.target, pair.test):
        assert len(images) == 5
        for path, label in zip(images.paths, images.labels, strict=True):
            assert prompts[label] == f"a {path.parent.name.replace('_', ' ').lower()}"


def test_a_class_that_only_the_test_list_has_stays_a_class(tmp_path):
    # DomainNet's painting_train.txt has no t-shirt.
    domains(tmp_path, ("clipart", "painting"), NET)
    splits(tmp_path, "splits", ("clipart",))
    splits(tmp_path, "splits", ("painting",), train=[name for name in NET if name != "t-shirt"])
    pair = data.load("domainnet", "p-c", root=tmp_path)
    assert pair.task.classes == NET and len(pair.source) == 4
    assert folder_names(pair.source) == names(pair.source)
    assert names(data.load("domainnet", "c-p", root=tmp_path).test) == list(NET)


def test_half_of_the_split_files_is_refused(tmp_path):
    domains(tmp_path, ("clipart", "sketch"), NET)
    splits(tmp_path, "splits", ("clipart", "sketch"))
    (tmp_path / "splits" / "sketch_test.txt").unlink()
    with pytest.raises(DataError, match=r"split file 'sketch_test\.txt' .* is missing; put it"):
        data.load("domainnet", "c-s", root=tmp_path)


def test_mini_domainnet_needs_its_lists_and_ignores_those_of_domainnet(tmp_path):
    domains(tmp_path, ("clipart", "real"), (*NET, "axe"))
    splits(tmp_path, "splits", ("clipart", "real"))
    with pytest.raises(DataError, match=r"'clipart_train\.txt' .* splits_mini.*Dassl"):
        data.load("mini-domainnet", "c-r", root=tmp_path)
    splits(tmp_path, "splits_mini", ("clipart", "real"), NET[1:4], NET[1:4])
    pair = data.load("mini-domainnet", "c-r", root=tmp_path)
    assert pair.task.classes == NET[1:4] and pair.held_out and len(pair.test) == 3
    assert folder_names(pair.test) == names(pair.test)


def test_a_test_image_that_is_trained_on_is_refused(tmp_path):
    domains(tmp_path, ("clipart", "sketch"), NET)
    splits(tmp_path, "splits", ("clipart", "sketch"))
    text = (tmp_path / "splits" / "sketch_test.txt").read_text()
    (tmp_path / "splits" / "sketch_train.txt").write_text(text)
    with pytest.raises(DataError, match=r"5 images of 'sketch' would be trained on and tested on"):
        data.load("domainnet", "c-s", root=tmp_path)
