"""Files and folders that this user may not look at: one error of ours, which says so."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime.bundles.bundle import Bundle
from runtime.bundles.install import install
from runtime.frames.preprocess import read_image
from runtime.sessions.session import Session
from runtime.storage import disk
from tests.runtime.conftest import _make_world
from tests.users import as_stranger, needs_root

pytestmark = needs_root
DENIED = ": Permission denied; check "


@pytest.fixture
def open_world(open_folder):
    return _make_world(open_folder / "toy.bundle")


def test_a_bundle_in_a_closed_folder_is_not_called_missing(open_world):
    open_world.path.chmod(0o700)
    said = as_stranger(lambda: Bundle.open(open_world.path))
    assert said.startswith("StorageError: cannot read '") and DENIED in said
    said = as_stranger(lambda: install(open_world.path, open_world.path / "x"))
    assert DENIED in said


@pytest.mark.parametrize("part", ["base", "graphs", "tasks", "manifest.json"])
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_part_of_a_bundle_that_may_not_be_read_is_not_called_missing(open_world, part, kind):
    where = open_world.path / part
    for path in [where] if kind == "folder" or where.is_file() else where.iterdir():
        path.chmod(0)
    said = as_stranger(lambda: Session.open(open_world.path).switch("a-b"))
    assert said.startswith(("StorageError: cannot read '", "FormatError: cannot read '"))
    assert DENIED in said and part in said


@pytest.mark.parametrize("closed", ["x.png", "."])
def test_an_image_that_may_not_be_read_asks_for_permissions(open_folder, closed):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(open_folder / "x.png")
    (open_folder / closed).chmod(0)
    said = as_stranger(lambda: read_image(open_folder / "x.png"))
    assert said.startswith("DataError: cannot read the image '") and DENIED in said


def test_what_cannot_exist_is_missing(tmp_path):
    (tmp_path / "file").write_text("")
    os.symlink("round", tmp_path / "round")
    for name in ("x" * 300, "file/x", "round", "a\0b", "nothing"):
        assert not disk.exists(tmp_path / name) and not disk.is_file(Path(tmp_path / name))
    assert disk.is_link(tmp_path / "round")


def test_a_folder_that_may_not_be_listed_is_not_called_empty(open_folder):
    (open_folder / "x.txt").write_text("")
    open_folder.chmod(0o711)
    assert DENIED in as_stranger(lambda: disk.matching(open_folder, "*.txt"))
    assert disk.matching(open_folder, "*.txt") == [open_folder / "x.txt"]
