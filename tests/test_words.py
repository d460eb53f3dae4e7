"""`make lint` refuses words that were given up."""

import subprocess
import sys
from pathlib import Path

import pytest

WORDS = Path(__file__).with_name("words.py")


def check(*folders):
    command = [sys.executable, WORDS, *folders]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "line",
    [
        "from runtime.storage import sealed",
        "        bundle: Whose.",
        "raise ValueError(f\"'{path}' is no bundle\")",
        "remedy = 'check the path'",
        "told: Told",
        "    place = folder / name",
        "            smoothing: Of the cross entropy.",
        "class DataFacts:",
    ],
)
def test_a_given_up_word_is_found_with_what_to_say(tmp_path, line):
    (tmp_path / "module.py").write_text(f"\n{line}\n")
    done = check(tmp_path)
    assert done.returncode == 1 and f"{tmp_path / 'module.py'}:2: " in done.stdout


def test_keys_inside_files_and_plain_english_pass(tmp_path):
    (tmp_path / "module.py").write_text('_META = "sealed"\nraise KeyError("there is no task")\n')
    assert check(tmp_path).returncode == 0


def test_packages_examples_and_guides_have_none():
    done = check()
    assert (done.returncode, done.stdout) == (0, "")
