import shutil

import pytest

from adapt.artifact import Artifact
from export.images import sample
from runtime.errors import DataError
from tests.export.helpers import CLASSES


@pytest.fixture
def task(world):
    path = world.artifacts / "my-objects" / "p-a" / "cmkd-rst" / "artifact.safetensors"
    return Artifact.load(path)


def test_folders_of_some_of_the_classes_label_their_images(world, task, tmp_path):
    for name in CLASSES[1:]:
        shutil.copytree(world.images / name, tmp_path / "some" / name)
    found = sample(task, tmp_path / "some")
    assert found.labels.tolist() == [1] * 12 + [2] * 12


def test_folders_of_which_only_some_are_classes_are_refused(world, task, tmp_path):
    shutil.copytree(world.images, tmp_path / "more")
    shutil.copytree(world.images / CLASSES[0], tmp_path / "more" / "Cup 2")
    with pytest.raises(DataError, match="task 'p-a' knows, like 'cup', and others, 'Cup 2'; move"):
        sample(task, tmp_path / "more")
