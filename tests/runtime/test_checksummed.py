import os

import numpy as np
import pytest

from runtime.errors import FormatError
from runtime.storage import checksummed


@pytest.fixture
def path(tmp_path):
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([1, 2], np.uint8)}
    checksummed.write(tmp_path / "file", "test", 3, {"name": "x"}, tensors)
    return tmp_path / "file"


def test_document_and_tensors_come_back(path):
    for file in (
        checksummed.read(path, "test", 3),
        checksummed.read(path, "test", 3, content=path.read_bytes()),
    ):
        assert file.document == {"name": "x"}
        np.testing.assert_array_equal(file.tensors["a"], [[0, 1, 2], [3, 4, 5]])
        np.testing.assert_array_equal(file.tensors["b"], [1, 2])
        file.tensors["a"][0] = 7  # fresh, and one's own


def test_every_flipped_bit_is_found(path):
    content = path.read_bytes()
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << (position % 8)
        path.write_bytes(damaged)
        if damaged[position : position + 1].isspace() or content[position : position + 1].isspace():
            continue  # the header's padding carries nothing
        with pytest.raises(FormatError):
            checksummed.read(path, "test", 3)
        with pytest.raises(FormatError):
            checksummed.read(path, "test", 3, content=bytes(damaged))


def test_kind_and_version_are_checked(path):
    with pytest.raises(FormatError, match="not a other file"):
        checksummed.read(path, "other", 3)
    with pytest.raises(FormatError, match="schema 3, this version reads 4"):
        checksummed.read(path, "test", 4)


def test_a_missing_file_a_folder_and_a_foreign_file_are_refused(path, tmp_path):
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(2)}, tmp_path / "plain")
    (tmp_path / "text").write_text("hello")
    for name in ("missing", ".", "plain", "text"):
        with pytest.raises(FormatError):
            checksummed.read(tmp_path / name, "test", 3)
    for content in (b"", b"hello", (tmp_path / "plain").read_bytes(), path.read_bytes()[:-1]):
        with pytest.raises(FormatError):
            checksummed.read(path, "test", 3, content=content)


def test_a_failed_write_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        checksummed.write(tmp_path / "file", "test", 1, {"x": float("nan")}, {})
    assert list(tmp_path.iterdir()) == []


def test_a_named_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FormatError, match="cannot read .*: not a regular file; check the path"):
        checksummed.read(tmp_path / "pipe", "uda-task", 2)
