"""Training on a GPU, at every precision and compiled, as `uda-adapt train` does it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from click.testing import CliRunner

from adapt.cli import main

SETTINGS = (
    "model=demo-rn32 pretrained=demo batch_size=8 epochs=2 iterations=3 train_size=36 "
    "head_lr_multiplier=10.0 lr=1e-3"
).split()


@pytest.mark.gpu
@pytest.mark.parametrize("more", ["amp=none", "amp=bf16", "amp=fp16", "compile=true"])
def test_a_few_steps_on_a_gpu_stay_finite_and_are_saved(
    images: Path, cache: Path, tmp_path: Path, more: str
) -> None:
    words = ["train", "--data", str(images), "--source", "day", "--target", "night"]
    words += ["--device", "cuda", "--no-baselines", "--out", str(tmp_path)]
    words += [word for setting in (*SETTINGS, more) for word in ("--set", setting)]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    folder = tmp_path / "street" / "day-night" / "cmkd"
    epochs = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len(epochs) == 2
    numbers = [n for n in epochs[-1].values() if isinstance(n, float)]
    assert numbers and all(map(math.isfinite, numbers))
    assert (folder / "artifact.safetensors").is_file()
