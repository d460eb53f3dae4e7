"""Training on a GPU, at every precision and compiled, as `uda-adapt train` does it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from adapt.cli import main
from adapt.clip.model import load
from adapt.methods.cmkd import CMKD, CMKDConfig
from adapt.optim import rst
from adapt.optim.optimization import Optimization
from adapt.training.batches import Stream

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


@pytest.mark.gpu
@pytest.mark.parametrize("changes", [{}, {"rst": True, "rst_density": 0.015}, {"fixmatch": 0.5}])
def test_a_step_on_a_gpu_never_waits_for_it(changes: dict[str, float]) -> None:
    device = torch.device("cuda")
    clip, prompts = load("demo-vit32", "demo", "cuda"), ("a bee", "a cup", "a dog")
    config = CMKDConfig(batch_size=6, pad=0, crop_min=0.5, lr=1e-3, **changes)
    pixels = np.random.default_rng(0).integers(0, 256, (24, 36, 36, 3), dtype=np.uint8)
    method = CMKD(clip, prompts, config).train()
    optimization = Optimization(method.parameter_groups(), config, rst.over(method.encoder, config))
    labels = np.arange(24) % 3
    streams = [
        Stream("source", pixels, labels, config, clip, device, digest=""),
        Stream("target", pixels, None, config, clip, device, digest=""),
    ]

    def step(i: int) -> None:
        optimization.set_factor(1.0)
        method.training_step(*(stream.batch(i) for stream in streams), i, optimization)

    for i in range(3):  # constants are copied, libraries are loaded
        step(i)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for i in range(3, 6):
            step(i)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
def test_a_gpu_keeps_the_same_entries_as_a_cpu() -> None:
    parts = [torch.randn(300, 70), torch.randn(999)]
    moved = [torch.randn_like(part) * 1e-3 for part in parts]
    kept = []
    for device in ("cpu", "cuda"):
        parameters = [torch.nn.Parameter(part.clone().to(device)) for part in parts]
        projection = rst.Projection(parameters, rst.Budget(0.02))
        with torch.no_grad():
            for parameter, by in zip(parameters, moved, strict=True):
                parameter += by.to(device)
        projection.apply(1.0)
        kept.append([parameter.detach().cpu() for parameter in parameters])
    assert all(torch.equal(one, other) for one, other in zip(*kept, strict=True))
