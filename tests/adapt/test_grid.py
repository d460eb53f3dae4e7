"""Rounding to a precision's grid, against bit arithmetic, and which tensors are rounded."""

from __future__ import annotations

import copy
import struct
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adapt.clip.model import Clip, encoder_tensors
from adapt.optim.grid import DTYPES, GRIDS, float32_names, on_grid, rounded, snap


def naive(value: float, grid: str) -> float:
    """Round one number: Python's own halves, and bfloat16 as the upper half of a float32."""
    if grid == "fp16":
        try:
            return float(struct.unpack("e", struct.pack("e", value))[0])
        except OverflowError:
            return float("inf") if value > 0 else float("-inf")
    bits = struct.unpack("I", struct.pack("f", value))[0]
    upper, rest = bits >> 16, bits & 0xFFFF
    if rest > 0x8000 or (rest == 0x8000 and upper & 1):
        upper += 1
    return float(struct.unpack("f", struct.pack("I", upper << 16))[0])


@pytest.mark.parametrize("grid", ["fp16", "bf16"])
@given(st.lists(st.floats(-(2.0**126), 2.0**126, width=32), min_size=1, max_size=30))
def test_rounding_is_what_bit_arithmetic_gives(grid: str, values: list[float]) -> None:
    found = rounded(np.float32(values), grid)
    assert found.dtype == np.float32
    expected = np.float32([naive(value, grid) for value in values])
    assert np.array_equal(found.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("grid", ["fp16", "bf16"])
def test_ties_go_to_the_even_neighbour(grid: str) -> None:
    step = 2.0 ** {"fp16": -10, "bf16": -7}[grid]
    ties = np.float32([1 + step * (k + 0.5) for k in range(8)])
    evens = [1 + step * (2 * round((k + 0.5) / 2)) for k in range(8)]
    assert rounded(ties, grid).tolist() == evens


def test_rounding_twice_is_rounding_once_and_float32_is_left_alone() -> None:
    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    assert rounded(values, "fp32") is values
    for grid in ("fp16", "bf16"):
        once = rounded(values, grid)
        assert np.array_equal(rounded(once, grid), once) and not np.array_equal(once, values)


@pytest.mark.parametrize(
    ("kind", "layers"), [("vit", {"ln_pre", "ln_post", "ln_1", "ln_2"}), ("resnet", {"bn", "1"})]
)
def test_normalisation_stays_float32_and_nothing_else(
    small_clip: Callable[[str], Clip], kind: str, layers: set[str]
) -> None:
    visual = small_clip(kind).visual
    names = float32_names(visual) & encoder_tensors(visual).keys()
    owners = {name.rsplit(".", 2)[-2] for name in names}
    assert {owner.rstrip("123") if "bn" in owner else owner for owner in owners} == layers
    others = encoder_tensors(visual).keys() - names
    assert not [name for name in others if "ln_" in name or "bn" in name or "running" in name]


@pytest.mark.parametrize("kind", ["vit", "resnet"])
@pytest.mark.parametrize("grid", GRIDS)
def test_an_encoder_is_rounded_in_place_as_its_tensors_are(
    small_clip: Callable[[str], Clip], kind: str, grid: str
) -> None:
    visual = small_clip(kind).visual
    before = copy.deepcopy(visual)
    expected = on_grid(encoder_tensors(visual), visual, grid)
    snap(visual, grid)
    found, exact = encoder_tensors(visual), float32_names(visual)
    assert all(np.array_equal(found[name], expected[name]) for name in found)
    for name, parameter in before.named_parameters():
        dtype = torch.float32 if name in exact else DTYPES[grid]
        assert np.array_equal(found[name], parameter.detach().to(dtype).float().numpy())
