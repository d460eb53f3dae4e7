"""The average of the last epochs' weights against NumPy, with RST and on a grid."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from adapt.optim import rst
from adapt.optim.averaging import WeightAverage
from adapt.optim.grid import Grid
from adapt.optim.groups import Group
from adapt.optim.optimization import Optimization
from adapt.settings.config import TrainConfig
from adapt.settings.layers import resolve
from adapt.settings.methods import CMKDConfig
from runtime.errors import FormatError

MOVED = 12
"""Entries that the epochs change, of 60."""


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(0.05 * torch.randn((6, 10), generator=draw))
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)
        self.register_buffer("statistic", torch.zeros(4))
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))


def make(density: float = 0.0, grid: Grid = "fp32") -> tuple[Net, Optimization, WeightAverage]:
    net, config = Net(), TrainConfig()
    rule = rst.Budget(density) if density else None
    projection = rst.Projection([net.weight], rule, grid) if density or grid != "fp32" else None
    optimization = Optimization([Group((net.weight,), 0.1)], config, projection)
    return net, optimization, WeightAverage(net, optimization)


def epochs(
    net: Net, optimization: Optimization, average: WeightAverage, count: int
) -> list[Tensor]:
    """Move the weights `count` times, and return what they were each time, before rounding."""
    draw, seen = torch.Generator().manual_seed(1), []
    for number in range(count):
        with optimization.masters(), torch.no_grad():
            net.weight.view(-1)[:MOVED] += 0.01 * torch.randn(MOVED, generator=draw)
            net.statistic.fill_(number)
            seen.append(net.weight.detach().clone())
        average.add()
    return seen


def bits(tensor: Tensor) -> bytes:
    return tensor.detach().numpy().tobytes()


def test_the_mean_is_applied_and_taken_away_bit_for_bit() -> None:
    net, optimization, average = make()
    base = net.weight.detach().clone()
    seen = epochs(net, optimization, average, 3)
    before = bits(net.weight)
    with average.applied():
        expected = np.mean([w.double().numpy() for w in seen], 0)
        np.testing.assert_allclose(net.weight.detach(), expected, rtol=0, atol=1e-8)
        assert torch.equal(net.weight.view(-1)[MOVED:], base.view(-1)[MOVED:])  # never moved
        assert net.statistic.tolist() == [1.0] * 4 and net.frozen.tolist() == [1.0] * 3
    assert bits(net.weight) == before and net.statistic.tolist() == [2.0] * 4


def test_one_epoch_is_its_own_mean() -> None:
    net, optimization, average = make(density=0.05)
    epochs(net, optimization, average, 1)
    before = bits(net.weight)
    with average.applied():
        assert bits(net.weight) == before


def test_the_mean_keeps_the_budget() -> None:
    """RST is applied to the mean: its largest changes stay, all else is the base's."""
    net, optimization, average = make(density=0.1)
    base = net.weight.detach().clone()
    seen = epochs(net, optimization, average, 4)
    with average.applied():
        change = (net.weight != base).view(-1)
        mean = torch.stack(seen).mean(0)
        largest = (mean - base).abs().view(-1).topk(6).indices
        assert sorted(change.nonzero().view(-1).tolist()) == sorted(largest.tolist())


@pytest.mark.parametrize("grid", ["fp16", "bf16"])
def test_on_a_grid_the_masters_are_averaged_and_the_mean_is_rounded(grid: Grid) -> None:
    net, optimization, average = make(grid=grid)
    seen = epochs(net, optimization, average, 3)
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}[grid]
    with average.applied():
        mean = torch.stack([w.double() for w in seen]).mean(0).float()
        step = torch.finfo(dtype).eps * mean.abs()
        assert torch.equal(net.weight, net.weight.to(dtype).float())
        assert ((net.weight - mean).abs() <= step).all()
    with optimization.masters():
        assert bits(net.weight) == bits(seen[-1])


def test_a_damaged_mean_of_a_checkpoint_is_refused() -> None:
    net, optimization, average = make()
    epochs(net, optimization, average, 2)
    means = dict(average.state())
    fresh = make()[2]
    fresh.load_state(2, means)
    assert bits(fresh.state()["weight"]) == bits(means["weight"])
    for wrong in ({}, {**means, "weight": torch.zeros(3)}, {**means, "other": torch.zeros(1)}):
        with pytest.raises(FormatError, match="averaged tensor '(weight|other|statistic)'"):
            make()[2].load_state(2, wrong)


def test_own_images_are_averaged_over_a_fifth_of_the_epochs() -> None:
    from adapt import methods
    from adapt.settings.config import AutoRequest

    own = resolve(CMKDConfig, "folder", "cmkd", ["model=demo-rn32", "pretrained=demo"])
    assert "average_epochs" in own.auto
    request = AutoRequest(700, 700, frozenset(own.auto))
    cls = methods.get("cmkd")
    assert cls.from_data(own.config, request)["average_epochs"] == 4
    head = dataclasses.replace(own.config, train_encoder=False)
    assert cls.from_data(head, request)["average_epochs"] == 1
    papers = resolve(CMKDConfig, "office-home", "cmkd", [])
    assert papers.config.average_epochs == 1 and "average_epochs" not in papers.auto
