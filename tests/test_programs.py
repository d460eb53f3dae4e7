"""How the three programs end: on Ctrl-C while they start, and when nobody reads their output."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PROGRAMS = ("adapt", "export", "runtime")


def program(name: str, *arguments: object, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", name, *map(str, arguments)]
    return subprocess.Popen(command, text=True, stderr=subprocess.PIPE, **options)


def interrupted(tmp_path: Path, module: str, name: str, *arguments: object) -> tuple[int, str]:
    """Run a program in which the import of a module takes long, with Ctrl-C in the middle."""
    (tmp_path / f"{module}.py").write_text(
        "import pathlib, time\n"
        f"pathlib.Path({str(tmp_path / 'started')!r}).touch()\n"
        "time.sleep(60)\n"
    )
    path = os.pathsep.join([str(tmp_path), *sys.path])
    child = program(name, *arguments, env={**os.environ, "PYTHONPATH": path})
    while not (tmp_path / "started").exists():
        assert child.poll() is None, child.communicate()
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    errors = child.communicate(timeout=30)[1]
    return child.returncode, errors


@pytest.mark.parametrize("name", PROGRAMS)
def test_ctrl_c_while_a_program_starts_is_one_line(tmp_path: Path, name: str) -> None:
    assert interrupted(tmp_path, "click", name, "--help") == (130, "error: interrupted\n")


def test_ctrl_c_in_a_command_is_one_line(tmp_path: Path) -> None:
    arguments = ("adapt", "spot-check", "score", tmp_path)
    assert interrupted(tmp_path, "torch", *arguments) == (130, "error: interrupted\n")


def closed_pipe() -> int:
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.parametrize("name", PROGRAMS)
def test_help_that_nobody_reads_is_no_error(name: str) -> None:
    child = program(name, "--help", stdout=closed_pipe())
    assert child.communicate(timeout=60)[1] == "" and child.returncode == 0


def test_training_goes_on_when_nobody_reads_its_output(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for domain in ("day", "night"):
        for label in ("cup", "key"):
            folder = tmp_path / "images" / domain / label
            folder.mkdir(parents=True)
            for number in range(4):
                pixels = draw.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    writer = closed_pipe()
    command = [
        *(sys.executable, "-m", "adapt", "train", "--data", "images", "--source", "day"),
        *("--target", "night", "--method", "zero_shot", "--set", "model=demo-rn32"),
        *("--set", "pretrained=demo"),
    ]
    done = subprocess.run(command, cwd=tmp_path, stdout=writer, stderr=writer, check=False)
    assert done.returncode == 0
    assert len(list((tmp_path / "artifacts").rglob("artifact.safetensors"))) == 1
