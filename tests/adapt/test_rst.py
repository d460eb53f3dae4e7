"""The in-place projection against the released code's per-parameter loop, bit for bit."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from adapt.optim import rst
from runtime.errors import ConfigError

TAU, LR = 1e-3, 3e-4


def network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, 5, 3),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(5 * 4, 7, bias=False),
    ).eval()


def bits(tensors: list[Tensor]) -> list[Tensor]:
    return [t.detach().clone().view(torch.int32) for t in tensors]


def test_twelve_steps_equal_the_per_parameter_loop_bit_for_bit() -> None:
    fused, loop = network(), network()
    projection = rst.Projection(list(fused.parameters()), rst.Threshold(TAU))
    base = [p.detach().clone() for p in loop.parameters()]
    images = torch.randn(12, 8, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    settings = {"lr": LR, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4, "fused": True}
    mine, theirs = (torch.optim.SGD(net.parameters(), **settings) for net in (fused, loop))
    densities = []
    for batch in images:
        for net, optimizer in ((fused, mine), (loop, theirs)):
            optimizer.zero_grad()
            net(batch).square().sum().backward()
            optimizer.step()
        projection.apply()
        for p, w0 in zip(loop.parameters(), base, strict=True):
            p.data = torch.where((p.data - w0).abs() > TAU, p.data, w0)  # new storage, as released
        for a, b in zip(bits(list(fused.parameters())), bits(list(loop.parameters())), strict=True):
            assert torch.equal(a, b)
        for p, q in zip(fused.parameters(), loop.parameters(), strict=True):
            assert torch.equal(mine.state[p]["momentum_buffer"], theirs.state[q]["momentum_buffer"])
        densities.append(projection.density)
    assert densities[0] < densities[-1]  # reset weights leave later: the momentum was not cleared
    assert 0.05 < densities[-1] < 0.95  # the case is neither empty nor full
    changed = sum(int((p != w0).sum()) for p, w0 in zip(loop.parameters(), base, strict=True))
    assert projection.changed() == changed
    assert densities[-1] == changed / sum(w0.numel() for w0 in base)


def test_after_the_projection_a_weight_is_the_base_or_farther_than_the_threshold() -> None:
    net = network()
    base = copy.deepcopy(net)
    projection = rst.Projection(list(net.parameters()), rst.Threshold(TAU))
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn_like(p) * TAU)
    projection.apply()
    for p, w0 in zip(net.parameters(), base.parameters(), strict=True):
        assert bool(((p == w0) | ((p - w0).abs() > TAU)).all())


def test_a_change_of_exactly_the_threshold_falls_back() -> None:
    p = nn.Parameter(torch.zeros(3))
    projection = rst.Projection([p], rst.Threshold(0.25))
    with torch.no_grad():
        p.copy_(torch.tensor([0.25, -0.25, 0.2500001]))
    projection.apply()
    assert p.tolist() == [0.0, 0.0, pytest.approx(0.2500001)]


def test_storage_never_moves() -> None:
    net = network()
    projection = rst.Projection(list(net.parameters()), rst.Threshold(TAU))
    pointers = [p.data_ptr() for p in net.parameters()]
    view = net[0].weight.data
    for _ in range(3):
        with torch.no_grad():
            for p in net.parameters():
                p.add_(torch.randn_like(p))
        projection.apply()
    assert [p.data_ptr() for p in net.parameters()] == pointers
    assert torch.equal(view, net[0].weight)
    assert len({p.untyped_storage().data_ptr() for p in net.parameters()}) == 1


def test_taking_over_parameters_keeps_their_values_and_shapes() -> None:
    before, net = network(), network()
    rst.Projection(list(net.parameters()), rst.Threshold(TAU))
    for p, q in zip(net.parameters(), before.parameters(), strict=True):
        assert torch.equal(p, q) and p.shape == q.shape


def test_buffers_larger_than_a_chunk_are_projected_to_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rst, "_CPU_CHUNK", 64)
    w0 = torch.randn(1000)
    p = nn.Parameter(w0.clone())
    projection = rst.Projection([p], rst.Threshold(0.5))
    moved = w0 + torch.randn(1000)
    with torch.no_grad():
        p.copy_(moved)
    projection.apply()
    assert torch.equal(p.data, torch.where((moved - w0).abs() > 0.5, moved, w0))


def test_negative_zeros_of_the_base_stay_negative_zeros() -> None:
    p = nn.Parameter(torch.tensor([-0.0, 1.0]))
    projection = rst.Projection([p], rst.Threshold(0.5))
    with torch.no_grad():
        p.add_(0.1)
    projection.apply()
    assert torch.equal(bits([p])[0], torch.tensor([-0.0, 1.0]).view(torch.int32))


def test_survival_is_the_share_of_changes_that_a_precision_keeps() -> None:
    p = nn.Parameter(torch.full((4,), 0.0078125 * 3))  # a value that fp16 holds
    projection = rst.Projection([p], rst.Threshold(1e-7))
    with torch.no_grad():
        p.add_(torch.tensor([0.0, 1e-6, 1e-6, 1e-3]))
    projection.apply()
    assert projection.changed() == 3
    assert projection.survival(torch.float16) == pytest.approx(1 / 3)
    assert projection.survival(torch.float32) == 1.0


def test_nothing_changed_survives_completely() -> None:
    projection = rst.Projection([nn.Parameter(torch.ones(3))], rst.Threshold(1e-7))
    assert (projection.density, projection.survival(torch.float16)) == (0.0, 1.0)


def test_half_precision_weights_are_refused() -> None:
    with pytest.raises(ConfigError, match="load the base model in float32"):
        rst.Projection([nn.Parameter(torch.ones(3, dtype=torch.float16))], rst.Threshold(1e-6))


def test_a_negative_threshold_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be 0 or more"):
        rst.Threshold(-1.0)
