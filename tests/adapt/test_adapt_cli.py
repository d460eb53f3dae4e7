"""`uda-adapt` as a user types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from adapt.cli import main

QUICK = (
    "model=demo-rn32 pretrained=demo batch_size=8 epochs=1 iterations=3 train_size=36 "
    "head_lr_multiplier=10.0 lr=1e-3 rst_threshold=1e-4"
).split()


def call(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def own_images(images: Path, *more: object) -> tuple[object, ...]:
    return ("--data", images, "--source", "day", "--target", "night", "--threads", 1, *more)


def quick(*settings: str) -> list[str]:
    return [word for setting in (*QUICK, *settings) for word in ("--set", setting)]


@pytest.fixture
def trained(images: Path, cache: Path, tmp_path: Path) -> Path:
    """A folder with one artifact of CMKD under RST."""
    out = tmp_path / "artifacts"
    result = call("train", *own_images(images, "--rst", "--out", out), *quick())
    assert result.exit_code == 0, result.output
    return out


@pytest.mark.parametrize("words", [[], ["train"], ["eval"], ["inspect"]])
def test_help_loads_no_torch(words: list[str]) -> None:
    code = (
        "import sys\nfrom adapt.cli import main\n"
        f"try: main({[*words, '--help']!r})\nexcept SystemExit: pass\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'open_clip', 'rich', 'yaml')))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0 and "Usage:" in done.stdout


def test_train_ends_with_a_readable_summary(images: Path, cache: Path, tmp_path: Path) -> None:
    result = call("train", *own_images(images, "--rst", "--seed", 4, "--out", tmp_path), *quick())
    assert result.exit_code == 0
    lines = result.stdout.splitlines()[-4:]
    assert [line[:11].strip() for line in lines] == ["accuracy", "", "density", "artifact"]
    assert "% last epoch" in lines[0] and "% oracle-best (epoch 1)" in lines[0]
    assert "27 the target images it was adapted to" in lines[1]
    path = tmp_path / "street" / "day-night" / "cmkd-rst" / "artifact.safetensors"
    assert str(path) in lines[3] and path.exists()


def test_eval_compares_zero_shot_with_every_variant(
    trained: Path, images: Path, tmp_path: Path
) -> None:
    call("train", *own_images(images, "--method", "source_only", "--out", trained), *quick())
    file = tmp_path / "out.json"
    result = call("eval", *own_images(images, "--artifacts", trained, "--json", file))
    assert result.exit_code == 0, result.output
    rows = [line.split()[0] for line in result.stdout.splitlines()[4:]]
    assert rows == ["zero_shot", "source_only", "cmkd-rst"]
    document = json.loads(file.read_text())
    assert [v["variant"] for v in document["variants"]] == rows
    assert document["variants"][0]["density"] == 0 < document["variants"][2]["density"] < 1
    assert document["held_out"] is False


def test_eval_without_artifacts_shows_zero_shot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "UDA_CACHE" not in os.environ:  # the demo's own tests have drawn the pictures already
        monkeypatch.setenv("UDA_CACHE", str(tmp_path / "cache"))
    result = call("eval", "--dataset", "demo-digits", "--task", "f-h", "--artifacts", tmp_path)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1].startswith("zero_shot")
    assert "797 held-out target images" in result.stdout


def test_eval_of_an_unknown_task_says_what_there_is(trained: Path) -> None:
    result = call("eval", "--task", "x-y", "--artifacts", trained)
    assert result.exit_code == 1
    assert "street/day-night" in result.stderr and "uda-adapt train" in result.stderr


def test_inspect_prints_what_an_artifact_is(trained: Path) -> None:
    result = call("inspect", trained / "street" / "day-night" / "cmkd-rst" / "artifact.safetensors")
    assert result.exit_code == 0, result.output
    assert "street day-night: day -> night" in result.stdout
    assert "3: bee, cup, dog" in result.stdout
    assert "demo-rn32/demo" in result.stdout and "oracle-best" in result.stdout


def test_a_users_error_is_one_line_and_exit_code_one(images: Path, cache: Path) -> None:
    result = call("train", *own_images(images), "--set", "learning_rate=1")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert "unknown key 'learning_rate'" in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["train"],
        ["train", "--dataset", "demo-digits"],
        ["train", "--dataset", "demo-digits", "--task", "f-h", "--source", "x"],
        ["train", "--dataset", "demo-digits", "--task", "f-h", "--resume", "--restart"],
        ["train", "--dataset", "demo-digits", "--task", "f-h", "--method", "dann"],
    ],
)
def test_wrong_usage_exits_with_two(words: list[str]) -> None:
    result = call(*words)
    assert result.exit_code == 2 and "Usage:" in result.stderr


def test_options_win_over_set(images: Path, cache: Path, tmp_path: Path) -> None:
    words = own_images(images, "--out", tmp_path, "--seed", 7)
    result = call("train", *words, *quick("seed=3", "rst=true"), "--no-rst")
    assert result.exit_code == 0, result.output
    path = tmp_path / "street" / "day-night" / "cmkd" / "artifact.safetensors"
    assert "seed 7" in call("inspect", path).stdout
