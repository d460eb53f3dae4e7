"""Finding artifacts by what a user types."""

import pytest

from adapt.artifacts.store import (
    FILE,
    artifact_file,
    artifact_path,
    dataset_of,
    entries,
    family,
    find,
    variant,
    variants,
)
from runtime.errors import FormatError, TaskError


@pytest.fixture
def shelf(tmp_path):
    def put(*names):
        for name in names:
            path = tmp_path / name / FILE
            path.parent.mkdir(parents=True)
            path.touch()
        return tmp_path

    return put


def test_find_returns_the_only_adapted_variant(shelf):
    root = shelf("d/f-h/zero_shot", "d/f-h/source_only", "d/f-h/cmkd-rst", "d/p-a/cmkd")
    assert find(root, "f-h") == root / "d/f-h/cmkd-rst" / FILE
    assert find(root, "f-h", "d", "zero_shot") == root / "d/f-h/zero_shot" / FILE


def test_find_returns_a_baseline_when_there_is_nothing_else(shelf):
    root = shelf("d/f-h/zero_shot")
    assert find(root, "f-h") == root / "d/f-h/zero_shot" / FILE


def test_find_lists_several_variants(shelf):
    root = shelf("d/f-h/cmkd", "d/f-h/cmkd-rst", "d/f-h/zero_shot")
    with pytest.raises(TaskError, match="zero_shot, cmkd, cmkd-rst; choose one with --method"):
        find(root, "f-h")
    assert find(root, "f-h", method="cmkd").parent.name == "cmkd"


def test_find_lists_baselines_when_only_those_are_there(shelf):
    root = shelf("d/f-h/source_only", "d/f-h/zero_shot")
    with pytest.raises(TaskError, match="source_only, zero_shot; choose one with --method"):
        find(root, "f-h")


def test_find_lists_variants_when_the_method_was_not_trained(shelf):
    with pytest.raises(TaskError, match="was not trained with 'ekda'; available: cmkd"):
        find(shelf("d/f-h/cmkd"), "f-h", method="ekda")


def test_find_asks_for_the_data_set_when_two_have_the_task(shelf):
    root = shelf("one/f-h/cmkd", "two/f-h/cmkd")
    with pytest.raises(TaskError, match="data sets one, two; choose one with --dataset"):
        find(root, "f-h")
    assert find(root, "f-h", "two") == root / "two/f-h/cmkd" / FILE


@pytest.mark.parametrize("task", ["x-y", "../d/f-h", "*", "f-h/cmkd", "a**", "[", ""])
def test_find_lists_tasks_and_the_command_for_an_unknown_one(shelf, task):
    with pytest.raises(TaskError) as caught:
        find(shelf("d/f-h/cmkd", "d/p-a/cmkd"), task)
    assert "available: d/f-h, d/p-a" in str(caught.value)
    assert f"uda-adapt train --dataset DATASET --task {task} --method cmkd" in str(caught.value)
    assert 'own "uda-adapt train --data ROOT --source DOMAIN' in str(caught.value)


def test_find_for_images_of_ones_own_says_the_command_that_can_make_it(shelf):
    with pytest.raises(TaskError) as caught:
        find(shelf("own/studio-shop/cmkd"), "studio-nope", "own")
    message = str(caught.value)
    assert 'make it with "uda-adapt train --data ROOT' in message
    assert "uda-adapt train --data ROOT --source DOMAIN --target DOMAIN --method cmkd" in message
    assert "--dataset" not in message


def test_find_says_what_was_probably_meant(shelf):
    root = shelf("own/studio-shop/cmkd", "own/studio-shop/unimos")
    with pytest.raises(
        TaskError, match="of task 'nope-shop'; available: own/studio-shop; .*--data"
    ):
        find(root, "nope-shop")
    with pytest.raises(TaskError, match="'studio-shpo'; did you mean 'studio-shop'; available:"):
        find(root, "studio-shpo")
    with pytest.raises(TaskError, match="with 'unimso'; did you mean 'unimos'; available: cmkd"):
        find(root, "studio-shop", method="unimso")


def test_find_in_a_folder_that_is_not_there_lists_none(tmp_path):
    with pytest.raises(TaskError, match="available: none"):
        find(tmp_path / "nowhere", "f-h")


def test_variants_are_those_of_one_task_baselines_first(shelf):
    root = shelf("d/f-h/cmkd-rst", "d/f-h/zero_shot", "d/p-a/cmkd", "e/f-h/cmkd")
    assert list(variants(root, "d", "f-h")) == ["zero_shot", "cmkd-rst"]
    assert variants(root, "*", "f-h") == {} == variants(root, "d", "f-h/zero_shot")


def test_the_data_set_of_a_task_is_the_only_one_that_has_it(shelf):
    root = shelf("one/f-h/cmkd", "one/p-a/cmkd", "two/f-h/cmkd")
    assert dataset_of(root, "p-a") == "one"
    with pytest.raises(TaskError, match="data sets one, two; choose one with --dataset"):
        dataset_of(root, "f-h")
    with pytest.raises(TaskError, match=r"no artifact of task 'a\*\*'; available: one/f-h"):
        dataset_of(root, "a**")


def test_an_artifact_is_found_where_it_is_put(shelf):
    path = artifact_path(shelf(), "d", "f-h", variant("cmkd", {"rst": True, "partial": False}))
    path.parent.mkdir(parents=True)
    path.touch()
    [entry] = entries(shelf())
    assert (entry.dataset, entry.task, entry.variant) == ("d", "f-h", "cmkd-rst")
    assert find(shelf(), "f-h") == entry.path == path


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "cmkd"),
        ({"rst": True}, "cmkd-rst"),
        ({"rst": True, "rst_threshold": 1e-4}, "cmkd-rst"),
        ({"rst": True, "rst_density": 0.001}, "cmkd-rst-d0.001"),
        ({"rst": True, "rst_density": 1e-05}, "cmkd-rst-d0.00001"),
        ({"rst": True, "rst_density": 0.1, "grid": "bf16"}, "cmkd-rst-d0.1-bf16"),
        ({"grid": "fp16", "fixmatch": 0.5}, "cmkd-fixmatch-fp16"),
        ({"grid": "fp32", "partial": True}, "cmkd-partial"),
    ],
)
def test_a_variant_says_what_was_added_with_budget_and_grid(settings, name):
    config = {"rst": False, "partial": False, "rst_density": 0.0, **settings}
    assert variant("cmkd", config) == name
    assert family("cmkd", config) == name.partition("-d0")[0].removesuffix("-fp16")


def test_a_baseline_on_a_grid_is_deployed_by_nobody_by_accident(shelf):
    root = shelf("d/f-h/cmkd", "d/f-h/zero_shot-fp16", "d/f-h/source_only-fixmatch")
    assert find(root, "f-h") == root / "d/f-h/cmkd" / FILE
    assert list(variants(root, "d", "f-h"))[-1] == "cmkd"


def test_a_folder_of_several_variants_lists_them(shelf):
    task = shelf("o/a-c/cmkd-rst", "o/a-c/zero_shot") / "o/a-c"
    with pytest.raises(FormatError, match=r"holds no artifact itself; .*cmkd-rst, .*zero_shot$"):
        artifact_file(task)
    assert artifact_file(task / "cmkd-rst") == task / "cmkd-rst" / FILE
