"""VisDA-2017 in miniature. One of its classes is called like its training split: train."""

import pytest

from adapt import data
from adapt.data.visda import VisDA
from runtime.errors import DataError
from tests.adapt.pictures import domains, folder_names, names, picture, write_list


@pytest.mark.parametrize("lists", ["none", "inside", "beside", "renamed"])
def test_visda_is_found_with_every_kind_of_list(lists, tmp_path):
    root = tmp_path / "visda17"
    domains(root, ("train", "validation"), VisDA.classes, count=1)
    for split in ("train", "validation") if lists != "none" else ():
        lines = [f"{name}/00000.jpg {label}" for label, name in enumerate(VisDA.classes)]
        if lists == "inside":
            write_list(root / split / "image_list.txt", *lines)
        elif lists == "beside":
            write_list(root / "image_list" / f"{split}.txt", *(f"{split}/{line}" for line in lines))
        else:
            write_list(root / f"{split}_list.txt", *(f"./{split}/{line}" for line in lines))
    pair = data.load("visda", "s-r", root=tmp_path)
    assert (pair.task.source, pair.task.target) == ("synthetic", "real")
    assert pair.task.classes == VisDA.classes
    assert folder_names(pair.source) == names(pair.source) == list(VisDA.classes)
    assert pair.source.labels.tolist() == pair.target.labels.tolist() == list(range(12))


def test_visda_labels_without_folders_follow_the_official_order(tmp_path):
    for split in ("train", "validation"):
        for number in range(12):
            picture(tmp_path / split / f"{number}.jpg")
        write_list(tmp_path / split / "image_list.txt", *(f"{n}.jpg {11 - n}" for n in range(12)))
    pair = data.load("visda", "s-r", root=tmp_path)
    assert names(pair.source)[0] == "truck" and names(pair.source)[11] == "aeroplane"


def test_a_list_that_gives_two_classes_one_number_is_refused(tmp_path):
    domains(tmp_path, ("train", "validation"), ("car", "bus"), count=1)
    write_list(tmp_path / "train" / "image_list.txt", "car/00000.jpg 3", "bus/00000.jpg 3")
    with pytest.raises(DataError, match=r"the label '3' two folders, 'bus' and 'car'"):
        data.load("visda", "s-r", root=tmp_path)


def test_a_list_that_gives_one_class_two_numbers_is_refused(tmp_path):
    domains(tmp_path, ("train", "validation"), ("car", "bus"))
    lines = ("car/00000.jpg 3", "car/00001.jpg 2", "bus/00000.jpg 1")
    write_list(tmp_path / "train" / "image_list.txt", *lines)
    with pytest.raises(DataError, match=r"the folder 'car' two labels, '2' and '3'"):
        data.load("visda", "s-r", root=tmp_path)


def test_a_list_of_missing_images_counts_them(tmp_path):
    domains(tmp_path, ("train", "validation"), ("car", "bus"), count=1)
    lines = ("car/00000.jpg 3", "car/9.jpg 3", "bus/8.jpg 1", "../validation/car/00000.jpg 3")
    write_list(tmp_path / "train" / "image_list.txt", *lines)
    with pytest.raises(DataError, match=r"names 3 images not found .* first: 'car/9\.jpg'"):
        data.load("visda", "s-r", root=tmp_path)
