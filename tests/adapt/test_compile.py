"""torch.compile: the same steps as without, and one clear line where it cannot work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from adapt.clip.model import Clip
from adapt.methods.cmkd import CMKD, CMKDConfig
from adapt.optim.optimization import Optimization
from adapt.optim.rst import over
from adapt.settings.config import TrainConfig
from adapt.settings.limits import check_compile
from runtime.errors import ConfigError
from tests.adapt.steps import batch


def trained(clip: Clip, prompts: Sequence[str], config: CMKDConfig) -> dict[str, Tensor]:
    method = CMKD(clip, prompts, config).train()
    projection = over(method.encoder, config)
    optimization = Optimization(method.parameter_groups(), config, projection)
    for number in range(2):
        terms = method.training_step(batch(1, True), batch(2, False), number, optimization)
        assert all(torch.isfinite(term) for term in terms.values())
    return {name: tensor.detach().clone() for name, tensor in method.state_dict().items()}


def test_a_compiled_encoder_takes_the_same_sparse_steps(
    small_clip: Callable[[str], Clip], prompts: Sequence[str]
) -> None:
    config = CMKDConfig(lr=1e-3, rst=True, rst_threshold=1e-4)
    torch._dynamo.reset()
    plain = trained(small_clip("vit"), prompts, config)
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    compiled = trained(small_clip("vit"), prompts, replace(config, compile=True))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > graphs  # it was compiled
    start = small_clip("vit").visual.state_dict()
    moved = 0
    for name, value in plain.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-3, atol=1e-5, msg=name)
        if (base := start.get(name.removeprefix("encoder."))) is not None:
            moved += int((value != base).sum())
    assert moved  # RST let something through, so there was something to compare


def test_compiling_without_a_compiler_is_refused_before_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CXX", "/nowhere/g++")
    with pytest.raises(ConfigError, match="no '/nowhere/g"):
        check_compile(TrainConfig(compile=True))
    check_compile(TrainConfig())
