"""Label-free scores against loops written from their definitions, and the choice they make."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapt.evaluation import selection
from adapt.evaluation.selection import choose, scores
from adapt.settings.selectors import names
from runtime.errors import ConfigError

NEAR = {"rel": 1e-12, "abs": 1e-12}


@pytest.fixture
def logits() -> Tensor:
    return torch.randn((7, 3), generator=torch.Generator().manual_seed(0)) * 3


def softmax(logits: Tensor) -> list[list[float]]:
    rows = []
    for row in logits.double().tolist():
        weights = [math.exp(z) for z in row]
        rows.append([w / sum(weights) for w in weights])
    return rows


def entropy(p: list[float]) -> float:
    return -sum(x * math.log(x) for x in p if x > 0)


def test_entropy_and_infomax_equal_loops_over_images_and_classes(logits: Tensor) -> None:
    p = softmax(logits)
    mean = sum(entropy(row) for row in p) / len(p)
    marginal = [sum(row[c] for row in p) / len(p) for c in range(3)]
    found = scores(logits)
    assert found["entropy"] == pytest.approx(mean, **NEAR)
    assert found["infomax"] == pytest.approx(entropy(marginal) - mean, **NEAR)


def test_soft_neighbourhood_density_equals_a_loop_over_pairs(logits: Tensor) -> None:
    units = []
    for row in softmax(logits):
        length = math.sqrt(sum(x * x for x in row))
        units.append([x / length for x in row])
    total = 0.0
    for i, one in enumerate(units):
        near = [
            math.exp(sum(a * b for a, b in zip(one, other, strict=True)) / 0.05)
            for j, other in enumerate(units)
            if j != i
        ]
        total += entropy([w / sum(near) for w in near])
    assert scores(logits)["snd"] == pytest.approx(total / len(units), **NEAR)


def test_nuclear_norm_equals_the_singular_values(logits: Tensor) -> None:
    p: NDArray[np.float64] = np.array(softmax(logits))
    expected = np.linalg.svd(p, compute_uv=False).sum() / math.sqrt(7 * 3)
    assert scores(logits)["nuclear"] == pytest.approx(expected, rel=1e-9)
    assert scores(logits[:2])["nuclear"] == pytest.approx(
        np.linalg.svd(p[:2], compute_uv=False).sum() / 2, rel=1e-7
    )


def test_agreement_counts_equal_classes(logits: Tensor) -> None:
    other = logits.clone()
    other[:3] = -other[:3]
    same = sum(
        int(np.argmax(a) == np.argmax(b))
        for a, b in zip(logits.numpy(), other.numpy(), strict=True)
    )
    assert scores(logits, other)["agreement"] == same / 7
    assert "agreement" not in scores(logits)


def test_scores_know_sure_and_balanced_from_sure_of_one_class() -> None:
    sure = 1000.0 * torch.eye(4).repeat(5, 1)
    found = scores(sure)
    assert found["entropy"] == 0
    assert found["infomax"] == pytest.approx(math.log(4))
    assert found["nuclear"] == pytest.approx(1)
    assert found["snd"] == pytest.approx(math.log(4), abs=1e-5)  # the four others of its class
    one = scores(sure[:1].repeat(20, 1))
    assert one["entropy"] == 0 and one["infomax"] == pytest.approx(0)
    assert one["nuclear"] == pytest.approx(0.5)


def test_chunks_change_nothing(logits: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = scores(logits, logits)
    monkeypatch.setattr(selection, "_ROWS", 2)
    assert scores(logits, logits) == pytest.approx(whole, **NEAR)


def test_density_of_many_images_looks_at_evenly_spaced_ones(
    logits: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "NEIGHBOURS", 3)
    assert scores(logits)["snd"] == pytest.approx(scores(logits[[0, 2, 4]])["snd"], **NEAR)


def test_one_image_scores_finite() -> None:
    found = scores(torch.tensor([[1.0, 2.0, 0.5]]))
    assert found["snd"] == 0 and all(map(math.isfinite, found.values()))


def history(**columns: list[float]) -> list[dict[str, object]]:
    length = len(next(iter(columns.values())))
    return [
        {"epoch": i + 1, "scores": {name: values[i] for name, values in columns.items()}}
        for i in range(length)
    ]


def test_choice_goes_up_or_down_as_the_score_needs() -> None:
    rows = history(entropy=[0.3, 0.1, 0.2], snd=[1.0, 2.0, 3.0], infomax=[5.0, 4.0, 3.0])
    assert [choose(rows, name) for name in ("last", "entropy", "snd", "infomax")] == [2, 1, 2, 0]


def test_of_equal_epochs_the_latest_is_chosen() -> None:
    rows = history(entropy=[0.1, 0.1, 0.2], nuclear=[0.7, 0.9, 0.9])
    assert (choose(rows, "entropy"), choose(rows, "nuclear")) == (1, 2)


def test_a_missing_score_is_an_error_that_lists_those_there_are() -> None:
    rows = history(entropy=[0.1, 0.2])
    with pytest.raises(ConfigError, match=r"epoch 1 has entropy; the method has no CLIP head"):
        choose(rows, "agreement")
    with pytest.raises(ConfigError, match=r"epoch 4 has none; choose one of last"):
        choose([{"epoch": 4}], "snd")
    assert choose([{"epoch": 4}], "last") == 0


def test_an_unknown_selector_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(
        ConfigError, match="select to one of last, entropy, infomax, snd, nuclear, agree"
    ):
        choose(history(entropy=[0.1]), "luck")
    assert names() == ["last", "entropy", "infomax", "snd", "nuclear", "agreement"]
