"""What `uda-adapt` refuses before it imports torch, which takes seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """if True:
    import json, sys
    from click.testing import CliRunner
    from adapt.cli import main

    found = {}
    for name, words in json.load(sys.stdin).items():
        result = CliRunner().invoke(main, words)
        found[name] = (result.exit_code, result.output, "torch" in sys.modules)
    print(json.dumps(found))
"""
OWN = ["--data", "{images}", "--source", "day", "--target", "night"]
TRAIN = ["train", *OWN, "--artifacts", "{out}"]
NAMED = ["--dataset", "demo-digits", "--task", "f-h"]
SHOW = ["train", "--show-settings"]
SWEEP = ["sweep", "--dataset", "demo-digits", "--out", "{out}"]
EVAL = ["eval", "--artifacts", "{out}"]
NAMES = {
    "key": (["--set", "epoch=3"], "--set: unknown key 'epoch'; did you mean 'epochs'"),
    "type": (["--set", "epochs=many"], " and command line: 'epochs' must be a whole number"),
    "value": (["--set", "lr=-1"], "'lr' must be above 0"),
    "tag and value": (
        ["--set", "model=ViT-B-32", "--set", "pretrained=laion2b_s34b_b79k", "--set", "lr=-1"],
        "'lr' must be above 0",
    ),
    "selector": (["--select", "infomx"], "unknown selector 'infomx'; did you mean 'infomax'"),
    "model": (["--set", "model=ViT-B-61"], "unknown architecture 'ViT-B-61'; did you mean 'ViT-B"),
    "weights": (["--set", "pretrained=gone.pt"], "weights file 'gone.pt' not found; pass"),
    "teacher": (["--method", "ekda", "--set", "teacher=ViT-X"], "unknown architecture 'ViT-X'"),
    "preset": (["--preset", "none"], "have no preset 'none'"),
    "rst": (["--method", "linear_probe", "--rst"], "'linear_probe' with these settings leaves"),
    "weights of nobody": (
        ["--set", "pretrained=~nobody-here/a.pt"],
        "weights file '~nobody-here/a.pt' not found; pass an existing one",
    ),
    "configuration of nobody": (
        ["--set", "model=~nobody-here/a.json"],
        "cannot read the model configuration '~nobody-here/a.json'",
    ),
    "too long": (["--set", f"pretrained={'x' * 300}.pt"], "x.pt' not found"),
    "device": (["--device", "gpu"], "unknown device 'gpu'; use cpu, cuda or cuda:N"),
}
"""Refused by whatever takes settings."""
CASES = {
    f"{name} in {where}": ([*command, *words], text)
    for where, command in (("train", TRAIN), ("show", [*SHOW, *NAMED]), ("sweep", SWEEP))
    for name, (words, text) in NAMES.items()
} | {
    "method": ([*TRAIN, "--method", "cmdk"], "did you mean 'cmkd'"),
    "domain": (
        ["train", *OWN[:-1], "nigth", "--artifacts", "{out}"],
        "nigth' does not exist; did you mean 'night'; available: day, fog, night",
    ),
    "list": (
        ["train", *OWN[:-1], "no.txt", "--artifacts", "{out}"],
        "list file 'no.txt' not found",
    ),
    "test": ([*TRAIN, "--test", "nowhere"], "test images 'nowhere' not found"),
    "long domain": (
        ["train", *OWN[:-1], "x" * 300, "--artifacts", "{out}"],
        "x' does not exist; available: day",
    ),
    "long test": ([*TRAIN, "--test", "x" * 300], "nor in the working folder; pass --test a folder"),
    "folder": (["train", "--data", "nowhere", *OWN[2:]], "'nowhere' does not exist"),
    "data set": (["train", "--dataset", "digit", "--task", "m-u"], "unknown data set 'digit'"),
    "task": (["train", "--dataset", "digits", "--task", "m-x"], "'digits' has no task 'm-x'"),
    "root": (["train", "--dataset", "digits", "--task", "m-u"], "pass its folder with --data"),
    "shown task": ([*SHOW, "--dataset", "digits", "--task", "m-x"], "'digits' has no task 'm-x'"),
    "lone task": ([*SHOW, "--task", "m-x"], "needs the --dataset it belongs to"),
    "sweep task": ([*SWEEP, "--tasks", "f-x"], "'demo-digits' has no task 'f-x'"),
    "sweep data set": (["sweep", "--dataset", "digit"], "unknown data set 'digit'"),
    "sweep root": (["sweep", "--dataset", "digits", "--out", "{out}"], "folder with --data"),
    "eval domain": ([*EVAL, *OWN[:-1], "fgo"], "fgo' does not exist"),
    "eval task": ([*EVAL, "--dataset", "digits", "--task", "m-x"], "no task 'm-x'"),
    "eval variant": ([*EVAL, *OWN, "--method", "cmkd"], "has no artifact of task 'day-night'"),
    "eval none": ([*EVAL, *OWN], "has no artifact of task 'day-night'"),
    "eval weights": ([*EVAL, *OWN, "--pretrained", "no.pt"], "weights file 'no.pt' not found"),
    "eval device": ([*EVAL, *OWN, "--device", "gpu"], "unknown device 'gpu'"),
}
SHOWN = [*SHOW, *NAMED]


@pytest.fixture(scope="module")
def refused(images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[object]]:
    """Exit code, output and whether torch is imported of every case, all in one process."""
    out = tmp_path_factory.mktemp("front") / "out"
    words = {
        name: [word.format(images=images, out=out) for word in command]
        for name, (command, _) in CASES.items()
    }
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        input=json.dumps({**words, "shown": SHOWN}),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert not out.exists()
    found: dict[str, list[object]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", CASES)
def test_a_bad_setting_is_refused_before_torch_is_imported(
    refused: dict[str, list[object]], images: Path, name: str
) -> None:
    code, output, torch = refused[name]
    assert code in (1, 2), output
    assert CASES[name][1].format(images=images) in " ".join(str(output).split())
    assert not torch


def test_show_settings_needs_no_torch(refused: dict[str, list[object]]) -> None:
    code, output, torch = refused["shown"]
    assert code == 0 and "demo-digits.yaml" in str(output) and not torch
