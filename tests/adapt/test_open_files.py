"""A process that may open no more files: said as it is, no file is called damaged or left out."""

import numpy as np
import pytest
from PIL import Image

from adapt.data.contents import file_sha256
from adapt.data.inspection.look import look_at
from runtime.bundles.bundle import Bundle
from runtime.frames.preprocess import read_image
from runtime.inventory.walk import walk
from runtime.storage.writing import write_bytes
from tests.runtime.conftest import _make_world
from tests.users import with_files


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("files")
    (path / "class").mkdir()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(path / "class/x.png")
    _make_world(path / "b")
    return path


CALLS = {
    "image": lambda path: read_image(path / "class/x.png"),
    "look": lambda path: look_at([path / "class/x.png"]),
    "contents": lambda path: file_sha256(path / "class/x.png"),
    "folder": lambda path: walk(path),
    "bundle": lambda path: Bundle.open(path / "b").weights(),
    "new file": lambda path: write_bytes(path / "new", b"new"),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_process_without_files_to_open_is_told_so(folder, name):
    read_image(folder / "class/x.png")  # whatever is imported later needs files too
    said = with_files(0, lambda: CALLS[name](folder))
    assert "Too many open files" in said
    assert said.partition("Error: ")[0] in ("Storage", "Format", "Data")


@pytest.mark.parametrize("name", ["image", "look", "contents", "bundle", "new file"])
def test_the_way_out_is_a_higher_limit(folder, name):
    assert with_files(0, lambda: CALLS[name](folder)).endswith("; raise the limit (ulimit -n)")
    assert with_files(9, lambda: CALLS[name](folder)) == ""


def test_a_folder_below_is_not_left_out(folder):
    said = with_files(1, lambda: walk(folder))
    assert said == "" or "Too many open files" in said
