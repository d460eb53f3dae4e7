"""Text from files cannot control a terminal: in every message, table and line that shows it."""

from __future__ import annotations

import json
import logging
import os
import pickle
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import save_file

from adapt.artifacts.artifact import Artifact
from adapt.cli import main as adapt
from adapt.settings import text as settings_text
from adapt.training.journal import _Line
from export.cli import main as export
from runtime import console, errors
from runtime.backends.trt import engine_file
from runtime.bundles.bundle import Bundle
from runtime.cli import main as device
from runtime.text import quoted, shell_command
from tests.runtime.conftest import _make_world
from tests.runtime.helpers import rewrite

ROOT = Path(__file__).parents[1]
EVIL = "\x1b[2J\x1b]0;owned\x07\r\u202e\u2028\x9b31m\ud800\nerror: all is well"
SHOWN = r"\x1b[2J\x1b]0;owned\x07"


def clean(text: str) -> bool:
    return text.isprintable() and "\\x1b[2J" in text


@pytest.mark.parametrize(
    "kind", [value for value in vars(errors).values() if isinstance(value, type)]
)
def test_the_message_of_every_error_is_one_line_without_control_characters(kind):
    error = kind(f"unknown key '{EVIL}'")
    assert clean(str(error)) and SHOWN in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error) == str(kind(error))
    assert str(kind("a\n   b \\n C:\\new 'é'")) == "a b \\n C:\\new 'é'"


def test_tables_lines_and_logs_escape_what_they_show(capsys):
    for line in console.table(["name"], [[EVIL], ["x"]]).split("\n"):
        assert line.isprintable()
    console.echo(f"two\nlines {EVIL}")
    assert capsys.readouterr().out.count("\n") == 3
    record = logging.LogRecord("adapt", logging.WARNING, "", 0, "left out: %s", (EVIL,), None)
    assert clean(_Line("%(message)s").format(record))


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash, as people's shells are")
@pytest.mark.parametrize(
    "word",
    [
        *("plain", "two words", "it's", "", "~", "-x", "$HOME `id` $(id)", "犬 é", "a\\b"),
        *("a\nb", "\x1b[2J\x07", "it's\t\\n1\x1b1", "\u202e\u2028x", os.fsdecode(b"caf\xe9")),
    ],
)
def test_a_command_to_copy_survives_the_shell_and_controls_no_terminal(word):
    shown = shell_command(["printf", "%s/", "a", word])
    assert shown.isprintable()
    done = subprocess.run(["bash", "-c", shown], capture_output=True, check=True)
    assert done.stdout == b"a/" + os.fsencode(word) + b"/"


def test_a_letter_that_no_path_has_is_shown_too():
    assert quoted(EVIL).isprintable() and "\\ud800" in quoted(EVIL)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Files of every kind with a key that clears the screen."""
    folder = tmp_path_factory.mktemp("hostile")
    world = _make_world(folder / "b.bundle", tasks=1)
    rewrite(world.path, lambda body: body.update({EVIL: 1}))
    document = json.dumps({"kind": EVIL})
    save_file({"x": np.zeros(1)}, folder / "artifact.safetensors", {"sealed": f"0 {document}"})
    return folder


@pytest.mark.parametrize(
    "command",
    [
        (device, "info", "b.bundle"),
        (device, "predict", "b.bundle", "x.png"),
        (device, "remove", "a-b", "--bundle", "b.bundle"),
        (export, "verify", "b.bundle"),
        (adapt, "inspect", "artifact.safetensors"),
    ],
    ids=lambda command: " ".join(command[1:3]),
)
def test_every_program_shows_one_clean_line(hostile, command, monkeypatch):
    monkeypatch.chdir(hostile)
    program, *arguments = command
    result = CliRunner().invoke(program, arguments)
    assert result.exit_code == 1, result.output
    (line,) = [line for line in result.stderr.split("\n") if line]
    assert line.startswith("error: ") and line.isprintable() and "\\x1b" in line


def test_readers_that_are_used_as_a_library_say_it_cleanly(hostile):
    name = json.dumps(EVIL)
    sidecar = f'{{"kind": "uda-engine", "schema": {name}}}'.encode()
    for read in (
        lambda: Bundle.open(hostile / "b.bundle"),
        lambda: Artifact.load(hostile / "artifact.safetensors"),
        lambda: engine_file.decode(sidecar, "'x'"),
        lambda: settings_text.override(f"{EVIL}"),
    ):
        with pytest.raises(errors.UdaError) as caught:
            read()
        assert str(caught.value).isprintable()


def test_nothing_else_prints():
    """`runtime.console.echo` is the one place where the three programs print."""
    others = [
        str(path.relative_to(ROOT))
        for package in ("runtime", "adapt", "export")
        for path in sorted((ROOT / package).rglob("*.py"))
        if re.search(r"\bclick\.echo\(", path.read_text())
    ]
    assert others == ["runtime/console.py"]
