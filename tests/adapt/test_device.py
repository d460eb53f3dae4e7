"""The default random generators of a step."""

from __future__ import annotations

import pytest
import torch

from adapt.compute.device import seed_generators
from adapt.compute.seeds import draw_seed


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_a_seed_gives_the_draws_that_torch_gives_for_it(device: str) -> None:
    place = torch.device(device)
    for seed in (0, draw_seed("step", 3), 2**63 - 1):
        draws = []
        torch.zeros(1, device=place)
        with torch.random.fork_rng(devices=[0] if device == "cuda" else []):
            for set_seed in (torch.manual_seed, lambda one: seed_generators(place, one)):
                set_seed(seed)
                draws.append((torch.rand(3), torch.rand(3, device=place).cpu()))
        for one, other in zip(*draws, strict=True):
            assert torch.equal(one, other)
