"""The threshold against a sort, whatever the order, the pieces and the ties."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adapt.optim.topk import topk_threshold, topk_threshold_on_gpu


@settings(max_examples=100, deadline=None)
@given(
    values=st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 1e-9, 7.0]), min_size=1, max_size=80),
    count=st.integers(0, 90),
    piece=st.integers(1, 30),
)
def test_the_threshold_is_the_next_largest_value(
    values: list[float], count: int, piece: int
) -> None:
    def chunks() -> Iterator[Tensor]:
        scratch = torch.empty(piece)  # overwritten by the next piece, as the projection does
        for start in range(0, len(values), piece):
            part = torch.tensor(values[start : start + piece])
            yield scratch[: len(part)].copy_(part)

    found = topk_threshold(chunks, len(values), count)
    assert float(topk_threshold_on_gpu(chunks, len(values), count)) == found
    exact = torch.tensor(values).tolist()
    expected = sorted(exact, reverse=True)[count] if count < len(values) else 0.0
    assert found == expected
    assert sum(value > found for value in exact) <= count


@pytest.mark.parametrize("order", ["rising", "falling", "random", "striped"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.9])
def test_a_sample_is_never_misled(order: str, share: float) -> None:
    values = torch.rand(40_000, generator=torch.Generator().manual_seed(0)).sort().values
    if order == "falling":
        values = values.flip(0)
    elif order == "random":
        values = values[torch.randperm(40_000, generator=torch.Generator().manual_seed(1))]
    elif order == "striped":  # so that a sample with a stride sees some quarters more than others
        values = values[torch.arange(40_000).reshape(-1, 10_000).T.reshape(-1)]
    count = int(share * 40_000)
    found = topk_threshold(lambda: iter(values.split(1000)), 40_000, count)
    assert float(topk_threshold_on_gpu(lambda: iter(values.split(1000)), 40_000, count)) == found
    assert found == float(values.sort(descending=True).values[count])
    assert int((values > found).sum()) == count
