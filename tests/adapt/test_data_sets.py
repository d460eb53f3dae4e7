import importlib
from pathlib import Path

import pytest

from adapt import data
from adapt.clip.captions import class_prompts
from adapt.data.demo import DemoDigits, DemoObjects
from runtime.errors import ConfigError, DataError, TaskError

SIZES = {"demo-digits": {"f": (2000, 500), "h": (1000, 797)}}
SIZES["demo-objects"] = dict.fromkeys("acpr", (1200, 600))
TASKS = [("demo-digits", "f-h"), ("demo-objects", "p-a"), ("demo-objects", "c-r")]


def test_every_line_of_the_table_is_a_data_set_with_its_own_name():
    for name, target in data.DATASETS.items():
        module, _, cls = target.partition(":")
        assert getattr(importlib.import_module(module), cls).name == name


@pytest.mark.parametrize(("dataset", "task"), TASKS)
def test_a_task_has_the_images_that_the_data_set_promises(dataset, task):
    pair = data.load(dataset, task)
    source, target = task.split("-")
    assert (pair.task.id, pair.task.dataset, pair.held_out) == (task, dataset, True)
    assert len(pair.source) == SIZES[dataset][source][0]
    assert (len(pair.target), len(pair.test)) == SIZES[dataset][target]
    assert pair.source.labelled and pair.test.labelled
    assert pair.task.classes == tuple(sorted(pair.task.classes)) == pair.source.classes
    assert not set(pair.target.paths) & set(pair.test.paths)
    for images in (pair.source, pair.target, pair.test):
        assert {p.parent.name for p in images.paths} == set(pair.task.classes)


def test_digits_are_spelled_as_the_base_model_has_read_them():
    classes = data.load("demo-digits", "f-h").task.classes
    assert class_prompts(classes, "an image of the number {}")[0] == (
        "an image of the number eight"
    )
    assert set(classes) == set("zero one two three four five six seven eight nine".split())


def test_the_supervised_bound_is_a_task_too():
    pair = data.load("demo-digits", "h-h")
    assert pair.source.paths == pair.target.paths
    assert not set(pair.source.paths) & set(pair.test.paths)


def test_images_lie_in_the_cache_folder(tmp_path_factory):
    path = data.load("demo-digits", "f-h").source.paths[0]
    assert isinstance(path, Path) and path.suffix == ".png" and path.is_file()


@pytest.mark.parametrize("task", ["f-x", "x-h", "fh", "", "F-H", "f-h-f", "../f-h", "font-hand"])
def test_an_unknown_task_lists_the_tasks_there_are(task):
    with pytest.raises(TaskError, match=r"available: f-h, h-f \(f = font, h = hand\)"):
        DemoDigits().load(task)


def test_an_unknown_task_of_objects_lists_twelve():
    with pytest.raises(
        TaskError, match="a-c, a-p, a-r, c-a, c-p, c-r, p-a, p-c, p-r, r-a, r-c, r-p"
    ):
        DemoObjects().load("x-y")


def test_an_unknown_data_set_lists_the_known_ones_and_the_way_to_folders():
    with pytest.raises(
        DataError,
        match="demo-digits, demo-objects, .* office31, .*visda, and any image folders with",
    ):
        data.load("office", "a-c")


def test_a_holdout_on_a_fixed_split_is_refused():
    with pytest.raises(ConfigError, match="has a test split of its own"):
        data.load("demo-digits", "f-h", holdout=0.2)
