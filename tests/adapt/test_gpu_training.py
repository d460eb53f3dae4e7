"""Training on a GPU, at every precision and compiled, as `uda-adapt train` does it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import distributed

from adapt.artifacts.artifact import Artifact
from adapt.clip.model import load
from adapt.compute import parallel
from adapt.data import DomainPair
from adapt.methods.cmkd import CMKD, CMKDConfig
from adapt.optim import rst
from adapt.optim.optimization import Optimization
from adapt.training.batches import Stream
from adapt.training.train import train
from runtime.errors import TrainingError

Changes = Mapping[str, object]
StopAt = Callable[[int], None]
COMPILED: Changes = {"compile": True}


@pytest.mark.gpu
@pytest.mark.parametrize("changes", [{"amp": a} for a in ("none", "bf16", "fp16")] + [COMPILED])
def test_a_run_on_a_gpu_is_stopped_resumed_and_saved(
    pair: DomainPair, rst_config: CMKDConfig, tmp_path: Path, stop_at: StopAt, changes: Changes
) -> None:
    config = replace(rst_config, **changes)
    stop_at(4)
    with pytest.raises(TrainingError, match="iteration 5 of 10"):
        train("cmkd", pair, config, out=tmp_path, device="cuda")
    stop_at(-1)
    run = train("cmkd", pair, config, out=tmp_path, device="cuda", resume=True)
    rows = (run.path.parent / "metrics.jsonl").read_text().splitlines()
    epochs = [json.loads(row) for row in rows]
    assert epochs[-1]["iteration"] == 10
    numbers = [n for n in epochs[-1].values() if isinstance(n, float)]
    assert numbers and all(map(math.isfinite, numbers))
    assert 0 < Artifact.load(run.path).density < 1


@pytest.mark.gpu
@pytest.mark.parametrize("changes", [{}, {"rst": True, "rst_density": 0.015}, {"fixmatch": 0.5}])
def test_a_step_on_a_gpu_never_waits_for_it(changes: Changes) -> None:
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


@pytest.fixture
def nccl(tmp_path: Path) -> Iterator[None]:
    distributed.init_process_group(
        "nccl", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1
    )
    yield
    distributed.destroy_process_group()


@pytest.mark.gpu
@pytest.mark.usefixtures("nccl")
def test_nccl_gathers_features_and_adds_up_gradients() -> None:
    features = torch.randn(6, 5, device="cuda", requires_grad=True)
    (joined,) = parallel._Gather.apply(features)
    weights = torch.randn_like(joined)
    (joined * weights).sum().backward()
    assert torch.equal(joined, features) and torch.equal(features.grad, weights)
    flag = torch.ones(1, device="cuda")
    distributed.all_reduce(flag)
    assert flag.item() == 1
