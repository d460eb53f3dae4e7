import shutil

import pytest
from PIL import Image

from adapt.artifacts.artifact import Artifact
from export.verification.images import ImagePaths, sample
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
    with pytest.raises(DataError, match="task 'p-a', such as 'cup', and others: 'Cup 2'; move"):
        sample(task, tmp_path / "more")


def test_folders_say_what_they_take_and_leave_out(world, tmp_path):
    shutil.copytree(world.images, tmp_path / "shop")
    shutil.copytree(world.images / CLASSES[0], tmp_path / "shop" / CLASSES[0] / "@eaDir")
    (tmp_path / "shop" / "notes.txt").write_text("x")
    folders = ImagePaths.parse([f"p-a={tmp_path / 'shop'}", str(world.images)])
    assert list(folders.inventory()) == [
        f"images '{tmp_path / 'shop'}': 36 taken; left out 13: thumbnails 12, .txt 1",
        f"images '{world.images}': 36 taken; nothing left out",
    ]


def test_a_folder_with_splits_is_verified_on_its_test_split(world, task, tmp_path):
    shutil.copytree(world.images, tmp_path / "shop" / "train")
    for name in CLASSES:
        (tmp_path / "shop" / "test" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "shop" / "test" / name / "0.png")
    found = sample(task, tmp_path / "shop")
    assert found.labels.tolist() == [0, 1, 2] and found.available == 3
