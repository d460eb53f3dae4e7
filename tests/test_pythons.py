"""`make runtime-pythons` takes interpreters that are here, and says which are not."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

HERE = ".".join(map(str, sys.version_info[:2]))


@pytest.fixture
def pythons(monkeypatch, tmp_path):
    """The module, on a machine that has what the test puts on its PATH."""
    spec = importlib.util.spec_from_file_location("pythons", Path(__file__).with_name("pythons.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PYENV_ROOT", raising=False)
    return module


def test_an_interpreter_of_the_version_is_found_wherever_it_was_installed(pythons, tmp_path):
    assert pythons.find(HERE) is None
    for place in (
        f".local/share/uv/python/cpython-{HERE}.1-linux",
        f".pyenv/versions/{HERE}.4",
        "",
    ):
        folder = tmp_path / place / "bin" if place else tmp_path
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"python{HERE}").symlink_to(sys.executable)
        assert pythons.find(HERE) == str(folder / f"python{HERE}")


def test_one_of_another_version_or_that_does_not_run_is_not_taken(pythons, tmp_path):
    (tmp_path / "python3.13").symlink_to(sys.executable)
    shim = tmp_path / "python3.12"
    shim.write_text("#!/bin/sh\necho 'pyenv: python3.12: command not found' >&2; exit 127\n")
    shim.chmod(0o755)
    assert pythons.find("3.13") is None and pythons.find("3.12") is None


def test_versions_that_are_not_there_are_named_and_none_at_all_fails(pythons, capsys):
    assert pythons.main([]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "Python 3.10: not found",
        "Python 3.12: not found",
        "Python 3.13: not found",
    ]
