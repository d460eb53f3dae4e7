"""Output that cannot be written: the command does its work all the same, and says one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from runtime.cli import main

LATIN = {"PYTHONIOENCODING": "latin-1"}
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
FULL = Path("/dev/full")


@pytest.fixture
def images(tmp_path):
    """Two images, one with a name that neither ASCII nor Latin-1 has."""
    (tmp_path / "犬").mkdir()
    found = [tmp_path / "犬" / "é.png", tmp_path / "x.png"]
    for path in found:
        Image.new("RGB", (9, 9)).save(path)
    return found


def predict(world, images, shell="", **environment):
    """Run `predict --json` in a shell, and return its result and the document."""
    out = world.path.with_name("out.json")
    words = [sys.executable, "-m", "runtime", "predict", world.path, *images, "--task", "a-b"]
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {shell}', "sh", *map(str, words), "--json", str(out)],
        capture_output=True,
        env={**os.environ, **environment},
        timeout=60,
    )
    return done, json.loads(out.read_text())


@pytest.mark.skipif(not FULL.exists(), reason="no disk that is always full")
def test_json_is_written_in_spite_of_a_full_disk_behind_stdout(world, images):
    done, found = predict(world, images, ">/dev/full")
    assert [row["image"] for row in found] == list(map(str, images))
    said = done.stderr.decode()
    assert said.startswith("error: cannot write the output: No space left on device; free some ")
    assert (done.returncode, said.count("\n")) == (1, 1)


@pytest.mark.parametrize("shell", ["<&- >&- 2>&-", "| true"])
def test_a_closed_stream_takes_no_files_number_and_is_no_error(world, images, shell):
    done, found = predict(world, images, shell)
    assert len(found) == 2
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("environment", [LATIN, ASCII])
def test_what_an_encoding_lacks_is_escaped(world, images, environment):
    done, found = predict(world, images, **environment)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode("latin-1").splitlines()
    assert len(lines) == len(found) == 2 and r"\u" in lines[0]


@pytest.mark.skipif(not FULL.exists(), reason="no disk that is always full")
def test_help_onto_a_full_disk_fails():
    with FULL.open("w") as full:
        command = [sys.executable, "-m", "runtime", "info", "--help"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: cannot write the output: ")


def test_the_streams_of_a_program_around_are_its_own_again(world):
    former = sys.stdout, sys.stderr
    assert CliRunner().invoke(main, ["info", str(world.path)]).exit_code == 0
    with pytest.raises(SystemExit):
        main(["info", "nothing"])
    assert (sys.stdout, sys.stderr) == former


def test_a_pipe_that_does_not_block_gets_everything(tmp_path):
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    code = (
        "import click; from runtime.console import UdaGroup; g = UdaGroup('g')\n"
        "g.command('c')(lambda: click.echo('x' * 300_000)); g(['c'])"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        assert len(stream.read()) == 300_001
    assert child.wait() == 0
