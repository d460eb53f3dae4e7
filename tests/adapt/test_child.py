"""Functions that are called in a fresh interpreter."""

import pytest

from adapt.child import ChildError, call


def test_modules_of_the_working_folder_are_not_imported(tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise SystemExit('the wrong numpy')")
    monkeypatch.chdir(tmp_path)
    (found,) = call("numpy:ones", (1,), tmp_path / "found.npz")
    assert found == 1


def test_a_call_that_takes_too_much_memory_fails_by_name(tmp_path):
    with pytest.raises(ChildError, match="Unable to allocate 3.00 GiB"):
        call("numpy:eye", (1, 3 << 27), tmp_path / "found.npz")
