"""Budgets and grids against naive loops: exact counts, exact bits."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from adapt.optim import rst
from adapt.optim import topk as cut
from adapt.optim.grid import DTYPES, Grid
from adapt.optim.groups import Group
from adapt.optim.optimization import Optimization
from adapt.settings.config import TrainConfig
from runtime.errors import ConfigError

SHAPES = ((7, 5), (11,), (3, 2, 2, 2), (13,))


def parameters(seed: int = 0) -> list[nn.Parameter]:
    """Parameters with values that no low precision holds."""
    draw = torch.Generator().manual_seed(seed)
    return [nn.Parameter(0.05 * torch.randn(shape, generator=draw)) for shape in SHAPES]


def move(tensors: Sequence[Tensor], seed: int, size: float = 1e-3) -> None:
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in tensors:
            tensor.add_(size * torch.randn(tensor.shape, generator=draw))


def flat(tensors: Sequence[Tensor]) -> list[float]:
    return [value for tensor in tensors for value in tensor.detach().reshape(-1).tolist()]


def fill(tensors: Sequence[Tensor], values: list[float]) -> None:
    parts = torch.tensor(values).split([tensor.numel() for tensor in tensors])
    with torch.no_grad():
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view(tensor.shape))


def naive_round(value: float, grid: Grid) -> float:
    if grid == "fp16":
        return float(struct.unpack("e", struct.pack("e", value))[0])
    return float(torch.tensor(value).to(DTYPES[grid]))


def naive_budget(now: list[float], base: list[float], count: int, grid: Grid) -> list[float]:
    """Sort what the grid shows, and keep all that is farther than the one after the first `count`.

    So hidden ones stay as well, if they are as far.
    """
    distance = [float(torch.tensor(w) - torch.tensor(w0)) for w, w0 in zip(now, base, strict=True)]
    shown = [naive_round(w, grid) != naive_round(w0, grid) for w, w0 in zip(now, base, strict=True)]
    visible = sorted((abs(d) for d, s in zip(distance, shown, strict=True) if s), reverse=True)
    cut = visible[count] if count < len(visible) else 0.0
    return [now[i] if abs(distance[i]) > cut else base[i] for i in range(len(now))]


@pytest.mark.parametrize("grid", ["fp32", "fp16", "bf16"])
@settings(max_examples=30, deadline=None)
@given(
    density=st.floats(0.005, 1.0),
    progress=st.floats(0.0, 1.0),
    seed=st.integers(0, 99),
    size=st.sampled_from([1e-5, 1e-3, 0.1]),
)
def test_a_budget_keeps_the_farthest_that_a_sort_finds(
    grid: Grid, density: float, progress: float, seed: int, size: float
) -> None:
    own = parameters(seed)
    base = flat(own)
    projection = rst.Projection(own, rst.Budget(density), grid)
    count = int(density ** min(1.0, progress / 0.5) * len(base))
    with projection.masters():
        assert flat(own) == base
        move(own, seed + 1, size)
        moved = flat(own)
        projection.apply(progress)
        expected = naive_budget(moved, base, count, grid)
        assert flat(own) == expected
    assert flat(own) == [naive_round(value, grid) for value in expected]
    pairs = zip(expected, base, strict=True)
    changed = sum(naive_round(a, grid) != naive_round(b, grid) for a, b in pairs)
    assert projection.changed() == changed <= count
    assert projection.density == changed / len(base)


def test_counts_are_exact_over_a_run_that_tightens_and_never_above_the_schedule() -> None:
    own = parameters()
    projection = rst.Projection(own, rst.Budget(0.1))
    total, found = sum(p.numel() for p in own), []
    for step in range(1, 41):
        move(own, step)
        projection.apply(step / 40)
        found.append(projection.changed())
    assert found == [int(0.1 ** min(1.0, step / 20) * total) for step in range(1, 41)]
    assert found[-1] == int(0.1 * total) and found[0] > 0.8 * total


@pytest.mark.parametrize("sample", [1, 7, 64])
@pytest.mark.parametrize("density", [0.002, 0.05, 0.6])
def test_a_sample_saves_time_and_changes_no_count(
    monkeypatch: pytest.MonkeyPatch, sample: int, density: float
) -> None:
    monkeypatch.setattr(cut, "_SAMPLE", sample)
    draw = torch.Generator().manual_seed(1)
    p = nn.Parameter(torch.zeros(5000))
    projection = rst.Projection([p], rst.Budget(density))
    moved = torch.randn(5000, generator=draw)
    moved[:300] *= 100  # a few far ahead, in a row, as a sample may miss them
    with torch.no_grad():
        p.copy_(moved)
    projection.apply()
    expected = moved.abs().topk(int(density * 5000)).indices
    assert p.detach().nonzero().flatten().tolist() == sorted(expected.tolist())


def test_equal_distances_at_the_edge_all_fall_back() -> None:
    p = nn.Parameter(torch.zeros(10))
    projection = rst.Projection([p], rst.Budget(0.4))
    with torch.no_grad():
        p.copy_(torch.tensor([3.0, -2, 1, 1, 1, -1, 0.5, 0, 0, 0]))
    projection.apply()
    assert p.tolist() == [3.0, -2.0] + 8 * [0.0]


def test_a_budget_of_less_than_one_weight_keeps_none_and_of_all_keeps_all() -> None:
    for density, kept in ((0.01, 0), (1.0, 9)):
        p = nn.Parameter(torch.zeros(10))
        projection = rst.Projection([p], rst.Budget(density))
        with torch.no_grad():
            p.copy_(torch.arange(10.0))
        projection.apply()
        assert projection.changed() == kept


def test_chunks_do_not_change_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for chunk in (16, 1 << 16):
        monkeypatch.setattr(rst, "_CPU_CHUNK", chunk)
        own = parameters()
        projection = rst.Projection(own[:3], rst.Budget(0.3), "fp16", own[3:])
        for step in range(5):
            with projection.masters():
                move(own, step, 1e-4)
                projection.apply(step / 5)
        results.append(flat(own))
    assert results[0] == results[1]


@pytest.mark.parametrize("density", [0.0, -0.1, 1.1])
def test_an_impossible_budget_is_refused(density: float) -> None:
    with pytest.raises(ConfigError, match="it must be above 0 and at most 1"):
        rst.Budget(density)


def naive_step(master: list[float], base: list[float], tau: float) -> list[float]:
    """Let the masters fall back one by one."""
    pairs = zip(master, base, strict=True)
    return [m if abs(float(torch.tensor(m) - torch.tensor(w0))) > tau else w0 for m, w0 in pairs]


@pytest.mark.parametrize("grid", ["fp16", "bf16"])
@pytest.mark.parametrize("tau", [5e-6, 2e-5])
def test_grid_steps_equal_a_loop_over_masters(grid: Grid, tau: float) -> None:
    """Ten steps of momentum SGD: forward on rounded weights, steps on masters, straight through."""
    own = parameters()
    base = flat(own)
    exact = [False] * (len(base) - 13) + [True] * 13
    projection = rst.Projection(own[:3], rst.Threshold(tau), grid, own[3:])
    config = TrainConfig(momentum=0.9, weight_decay=0.0)
    optimization = Optimization([Group(tuple(own), 3e-5)], config, projection)
    twins = parameters()
    plain = torch.optim.SGD(twins, lr=3e-5, momentum=0.9, nesterov=True, fused=True)
    target = torch.randn(len(base), generator=torch.Generator().manual_seed(9))
    masters, seen = list(base), []

    def loss(tensors: Sequence[Tensor]) -> Tensor:
        return (torch.cat([t.reshape(-1) for t in tensors]) * target).sin().sum()

    for _ in range(10):
        rounds = [m if e else naive_round(m, grid) for m, e in zip(masters, exact, strict=True)]
        assert flat(own) == rounds
        optimization.step(main=loss(own))
        fill(twins, rounds)
        plain.zero_grad()
        loss(twins).backward()
        fill(twins, masters)
        plain.step()
        masters = naive_step(flat(twins), base, tau)
        with projection.masters():
            assert flat(own) == masters
        triples = zip(masters, base, exact, strict=True)
        seen.append(
            sum(
                m != w if e else naive_round(m, grid) != naive_round(w, grid) for m, w, e in triples
            )
        )
        assert projection.changed() == seen[-1]
    assert 0 < seen[-1] < len(base)
    assert projection.survival(DTYPES[grid]) > 0.7  # of the exact ones some are below the grid


def test_without_a_rule_masters_gather_steps_that_the_grid_does_not_show() -> None:
    p = nn.Parameter(torch.ones(4))
    projection = rst.Projection([p], None, "bf16")
    seen = []
    for _ in range(5):
        with projection.masters(), torch.no_grad():
            p.add_(1e-3)
            projection.apply()
        seen.append(p[0].item())
    assert seen == [1.0, 1.0, 1.0, 1.0078125, 1.0078125]  # half a unit is 0.0039
    assert projection.changed() == 4


def test_storage_never_moves_on_a_grid() -> None:
    own = parameters()
    projection = rst.Projection(own, rst.Threshold(1e-4), "fp16")
    pointers = [p.data_ptr() for p in own]
    for step in range(3):
        with projection.masters():
            move(own, step)
            projection.apply()
    assert [p.data_ptr() for p in own] == pointers


@pytest.mark.parametrize("rst_on", [True, False])
def test_a_frozen_encoder_is_rounded_and_needs_no_watching(rst_on: bool) -> None:
    layer = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4)).requires_grad_(False)
    with torch.no_grad():
        layer[1].weight.fill_(1.0001)
    before = layer[0].weight.clone()
    assert rst.over(layer, TrainConfig(grid="bf16", rst=rst_on)) is None
    assert torch.equal(layer[0].weight, before.bfloat16().float())
    assert layer[1].weight[0].item() == pytest.approx(1.0001)


def test_the_settings_choose_the_rule() -> None:
    def rule(**settings: object) -> object:
        found = rst.over(nn.Linear(3, 4), TrainConfig(**settings))  # type: ignore[arg-type]
        return found and found.rule

    assert rule() is None and rst.over(nn.Linear(3, 4), TrainConfig()) is None
    assert rule(rst=True) == rst.Threshold(1e-6)
    assert rule(rst=True, rst_density=0.25) == rst.Budget(0.25)
    dense = rst.over(nn.Linear(3, 4), TrainConfig(grid="fp16"))
    assert dense is not None and dense.rule is None and dense.changed() == 0
