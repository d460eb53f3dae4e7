"""Every published data set in miniature, in every layout its archives and users have."""

import logging

import numpy as np
import pytest

from adapt import data
from adapt.clip.captions import class_prompts
from adapt.data.office31 import Office31
from adapt.data.office_home import OfficeHome
from runtime.errors import DataError, TaskError
from tests.adapt.pictures import domains, folder_names, names, picture, write_list

HOME = ("Alarm_Clock", "Drill", "Exit_Sign", "TV", "Table")


@pytest.mark.parametrize("inner", ["", "images"])
@pytest.mark.parametrize("above", ["", "office31", "Office-31"])
def test_office31_is_found_with_and_without_the_images_level(inner, above, tmp_path):
    domains(tmp_path / above, ("amazon", "DSLR", "webcam"), Office31.classes[:4], inner)
    pair = data.load("office31", "a-d", root=tmp_path)
    assert (pair.task.source, pair.task.target, pair.held_out) == ("amazon", "dslr", False)
    assert pair.task.classes == Office31.classes[:4]
    assert folder_names(pair.source) == names(pair.source) and len(pair.source) == 8
    assert class_prompts(pair.task.classes, "a {}")[0] == "a back pack"


def test_office31_takes_list_files_of_transfer_learning_library(tmp_path):
    domains(tmp_path, ("amazon", "dslr"), Office31.classes[:3], "images")
    for name in ("amazon", "dslr"):
        lines = [f"{name}/images/{c}/00001.jpg {n}" for n, c in enumerate(Office31.classes[:3])]
        write_list(tmp_path / "image_list" / f"{name}.txt", *lines)
    pair = data.load("office31", "d-a", root=tmp_path)
    assert names(pair.source) == folder_names(pair.source) == list(Office31.classes[:3])
    assert {path.name for path in pair.source.paths} == {"00001.jpg"}


@pytest.mark.parametrize("real", ["Real World", "Real_World", "RealWorld", "real_world", "real"])
@pytest.mark.parametrize("above", ["", "OfficeHomeDataset_10072016", "office-home/images"])
def test_office_home_is_found_under_every_spelling(real, above, tmp_path):
    domains(tmp_path / above, ("Art", real), HOME)
    pair = data.load("office-home", "r-a", root=tmp_path)
    assert (pair.task.source, pair.task.target) == ("real_world", "art")
    assert pair.task.classes == HOME == pair.target.classes
    assert folder_names(pair.target) == names(pair.target)


@pytest.mark.parametrize(
    "before", ["", "/data/office-home/images/", "./", "../dataset/OfficeHome/"]
)
def test_office_home_lists_number_classes_as_they_like(before, tmp_path):
    # UniMoS' lists start with Drill, Exit_Sign; the other domain is read from sorted folders.
    order = ("Drill", "Exit_Sign", "TV", "Alarm_Clock", "Table")
    domains(tmp_path, ("Art", "Real World"), HOME)
    lines = [f"{before}Real_World/{c}/00000.jpg {n}" for n, c in enumerate(order)]
    write_list(tmp_path / "Real_World.txt", *lines)
    pair = data.load("office-home", "a-r", root=tmp_path)
    assert pair.task.classes == HOME
    assert folder_names(pair.source) == names(pair.source)
    assert folder_names(pair.target) == names(pair.target) == list(order)
    assert pair.target.labels.tolist() == [1, 2, 3, 0, 4]
    assert len(pair.target) == 5 and len(pair.source) == 10


def test_a_class_in_another_spelling_is_the_same_class(tmp_path):
    domains(tmp_path, ("Art",), HOME)
    spelled = ("alarm clock", "drill", "exit-sign", "tv", "TABLE")
    domains(tmp_path, ("Clipart",), spelled)
    pair = data.load("office-home", "a-c", root=tmp_path)
    assert pair.task.classes == HOME
    found = set(zip(folder_names(pair.target), names(pair.target), strict=True))
    assert found == set(zip(spelled, HOME, strict=True))


def test_one_class_in_two_spellings_is_refused(tmp_path):
    domains(tmp_path, ("Art", "Clipart"), (*HOME, "alarm_clock"))
    with pytest.raises(DataError, match=r"'Alarm_Clock' twice: 'Alarm_Clock', 'alarm_clock'"):
        data.load("office-home", "a-c", root=tmp_path)


def test_two_folders_of_one_domain_are_refused(tmp_path):
    domains(tmp_path, ("Art", "Real World", "real_world"), HOME)
    with pytest.raises(DataError, match=r"'real_world': 'Real World', 'real_world'; keep one"):
        data.load("office-home", "a-r", root=tmp_path)


def test_a_link_to_a_domain_is_no_second_one(tmp_path):
    domains(tmp_path, ("Art", "Real World"), HOME)
    (tmp_path / "real_world").symlink_to(tmp_path / "Real World")
    assert len(data.load("office-home", "a-r", root=tmp_path).target) == 10


def test_a_class_missing_in_one_domain_is_named(tmp_path):
    domains(tmp_path, ("Art",), HOME)
    domains(tmp_path, ("Product",), HOME[:-1])
    with pytest.raises(DataError, match=r"only source 'art' has 'Table'; give both the same names"):
        data.load("office-home", "a-p", root=tmp_path)


def test_a_missing_domain_says_what_there_is_and_where_to_get_it(tmp_path):
    domains(tmp_path, ("Art", "Clipart"), HOME)
    with pytest.raises(
        DataError, match=r"domain 'product' .*available: 'Art', 'Clipart'; .*hemanthdv"
    ):
        data.load("office-home", "a-p", root=tmp_path)


def test_without_a_folder_the_way_to_the_data_set_is_told(tmp_path):
    with pytest.raises(DataError, match=r"get it \(https.* pass its folder with --data ROOT"):
        data.load("visda", "s-r")
    with pytest.raises(DataError, match="is not a folder"):
        data.load("visda", "s-r", root=tmp_path / "gone")
    with pytest.raises(DataError, match="draws its own images, .* leave out --data"):
        data.load("demo-digits", "f-h", root=tmp_path)


def test_counts_other_than_the_published_ones_are_told(tmp_path, caplog):
    domains(tmp_path, ("Art", "Clipart"), HOME)
    with caplog.at_level(logging.WARNING):
        data.load("office-home", "a-c", root=tmp_path)
    assert "'art' has 10 images of 5 classes, published: 2427 of 65" in caplog.text


def test_imageclef_is_read_from_flat_folders_and_lists(tmp_path):
    for short in "ipc":
        for number in range(12):
            picture(tmp_path / "image_CLEF" / short / f"n{number}.JPEG")
        lines = (f"{short}/n{number}.JPEG {number}" for number in range(12))
        write_list(tmp_path / "image_CLEF" / "list" / f"{short}List.txt", *lines)
    pair = data.load("imageclef", "i-p", root=tmp_path)
    assert (pair.task.source, pair.task.target) == ("imagenet", "pascal")
    assert pair.task.classes[0] == "aeroplane" and pair.task.classes[11] == "people"
    assert pair.target.labels.tolist() == list(range(12))


def test_imageclef_is_read_from_class_folders_too(tmp_path):
    domains(tmp_path, ("I", "P", "C"), ("bike", "dog"))
    pair = data.load("imageclef", "c-i", root=tmp_path)
    assert folder_names(pair.source) == names(pair.source)


def test_flat_images_without_their_list_are_refused(tmp_path):
    picture(tmp_path / "i" / "1.jpg")
    with pytest.raises(DataError, match=r"no list file 'imagenet\.txt' that labels them"):
        data.load("imageclef", "i-p", root=tmp_path)


@pytest.mark.parametrize("dataset", ["office31", "office-home", "visda", "domainnet", "imageclef"])
def test_every_reported_task_loads_with_one_class_order(dataset, tmp_path):
    found = data.get(dataset)
    classes = found.classes[:3] or HOME
    domains(tmp_path, [domain.name for domain in found.domains.values()], classes, count=1)
    for task in found.tasks():
        pair = data.load(dataset, task, root=tmp_path)
        assert pair.task.id == task and pair.task.classes == tuple(sorted(classes))
        assert pair.source.classes == pair.target.classes == pair.test.classes
        assert folder_names(pair.target) == names(pair.target)


def test_tasks_are_those_of_the_papers():
    assert data.tasks("visda") == ("s-r",)
    assert data.tasks("office31") == ("a-d", "a-w", "d-a", "d-w", "w-a", "w-d")
    assert data.tasks("digits") == ("s-m", "u-m", "m-u")
    assert len(data.tasks("domainnet")) == 30 and len(data.tasks("mini-domainnet")) == 12
    with pytest.raises(TaskError, match=r"r-a, r-c, r-p \(a = art, .* r = real_world\)"):
        data.load("office-home", "a-x")


def test_published_counts_add_up():
    totals = {"office31": 4110, "office-home": 15_588, "visda": 207_785, "domainnet": 586_575}
    totals |= {"mini-domainnet": 140_006, "imageclef": 1800, "digits": 178_587}
    for dataset, total in totals.items():
        found = data.get(dataset)
        assert sum(domain.images for domain in found.domains.values()) == total
        assert len(found.classes) in (0, found.class_count)
        assert list(found.classes) == sorted(found.classes)


def test_the_partial_set_protocol_takes_the_first_25_classes_by_name(tmp_path):
    domains(tmp_path, ("Art", "Clipart"), OfficeHome.classes, count=1)
    pair = data.load("office-home", "a-c", root=tmp_path, target_classes=25)
    assert len(pair.source) == len(pair.task.classes) == 65
    assert sorted(set(names(pair.target))) == sorted(OfficeHome.classes)[:25]
    assert set(names(pair.target)) >= {"Alarm_Clock", "Fork"} and "Glasses" not in names(
        pair.target
    )
    assert folder_names(pair.target) == names(pair.target) and len(pair.test) == 25
    assert np.array_equal(pair.target.labels, np.arange(25))
