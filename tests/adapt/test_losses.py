"""Every loss against loops in plain Python, on 4 images and 3 classes."""

from __future__ import annotations

import math

import pytest
import torch

from adapt.methods import losses

TASK = [[2.0, -1.0, 0.5], [0.1, 0.2, 0.3], [-1.5, 3.0, 0.0], [0.0, 0.0, 4.0]]
CLIP = [[1.0, 0.0, 0.0], [3.0, -2.0, 1.0], [-1.0, 2.0, 1.0], [5.0, 0.0, -5.0]]
LABELS = [0, 2, 1, 2]


def softmax(row: list[float]) -> list[float]:
    total = sum(math.exp(z) for z in row)
    return [math.exp(z) / total for z in row]


def naive_agreement(task: list[list[float]], clip: list[list[float]]) -> list[float]:
    out = []
    for z_h, z_g in zip(task, clip, strict=True):
        p, q = softmax(z_h), softmax(z_g)
        out.append(math.exp(-sum(b * math.log(b / a) for a, b in zip(p, q, strict=True))))
    return out


def naive_gini(p: list[list[float]], w: list[float]) -> float:
    mass = [sum(row[c] for row in p) for c in range(len(p[0]))]
    return sum(
        w_i * (1 - sum(row[c] ** 2 / mass[c] for c in range(len(row))))
        for w_i, row in zip(w, p, strict=True)
    )


def tensor(rows: list[list[float]]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.parametrize(
    ("t", "value"), [(0, 0.0), (5000, 0.2449187), (10000, 0.4621172), (10**6, 0.4621172)]
)
def test_the_ramp_has_the_released_codes_values(t: int, value: float) -> None:
    assert losses.ramp(t) == pytest.approx(value, abs=1e-7)


def test_the_ramp_can_be_shorter() -> None:
    assert losses.ramp(300, 600) == losses.ramp(5000)


def test_agreement_is_exp_of_minus_kl_of_clip_to_task() -> None:
    expected = naive_agreement(TASK, CLIP)
    assert losses.agreement(tensor(TASK), tensor(CLIP)).tolist() == pytest.approx(
        expected, rel=1e-12
    )


def test_agreement_carries_no_gradient() -> None:
    z = tensor(TASK).requires_grad_()
    assert not losses.agreement(z, z * 2).requires_grad


def test_agreement_is_one_for_equal_heads_and_zero_for_contradiction() -> None:
    z = torch.tensor([[0.0, 200.0], [300.0, 0.0]])
    assert losses.agreement(z, z).tolist() == [1.0, 1.0]
    assert losses.agreement(z, z.flip(1)).tolist() == [0.0, 0.0]


def test_an_underflowing_probability_gives_no_nan() -> None:
    z = torch.tensor([[0.0, 500.0, -500.0]], requires_grad=True)
    divergence = losses.kl_divergence(z, torch.tensor([[0.0, 1.0, 2.0]])).sum()
    divergence.backward()
    assert divergence.item() == pytest.approx(-(1 - math.log(1 + math.e + math.e**2)), rel=1e-6)
    assert z.grad is not None and bool(z.grad.isfinite().all())


def test_gini_impurity_equals_the_loop() -> None:
    p, w = [softmax(row) for row in TASK], [0.2, 1.0, 0.7, 0.05]
    value = losses.gini_impurity(tensor(p), torch.tensor(w, dtype=torch.float64))
    assert value.item() == pytest.approx(naive_gini(p, w), rel=1e-12)
    assert losses.gini_impurity(tensor(p)).item() == pytest.approx(
        naive_gini(p, [1.0] * 4), rel=1e-12
    )


def test_gini_impurity_of_one_hot_rows_is_images_minus_classes_present() -> None:
    p = torch.eye(5)[torch.tensor([0, 0, 3, 3, 3, 1])].requires_grad_()
    value = losses.gini_impurity(p)
    value.backward()
    assert value.item() == pytest.approx(6 - 3, abs=1e-6)
    assert p.grad is not None and bool(p.grad.isfinite().all())  # also of the two absent classes


def test_the_gradient_of_gini_impurity_treats_class_mass_as_constant() -> None:
    p, w = (
        tensor([softmax(row) for row in TASK]).requires_grad_(),
        torch.tensor([0.2, 1.0, 0.7, 0.05]),
    )
    losses.gini_impurity(p, w.double()).backward()
    expected = -2 * w.double()[:, None] * p.detach() / p.detach().sum(0)
    torch.testing.assert_close(p.grad, expected, rtol=1e-12, atol=0)


def test_the_gradient_through_softmax_equals_finite_differences() -> None:
    z, mass = tensor(TASK), tensor(TASK).softmax(-1).sum(0)
    leaf = z.clone().requires_grad_()
    losses.gini_impurity(leaf.softmax(-1)).backward()
    assert leaf.grad is not None
    for i in range(4):
        for c in range(3):
            values = []
            for h in (1e-6, -1e-6):
                moved = z.clone()
                moved[i, c] += h
                values.append(float((1 - (moved.softmax(-1) ** 2 / mass).sum(-1)).sum()))
            assert leaf.grad[i, c].item() == pytest.approx((values[0] - values[1]) / 2e-6, abs=1e-8)


def test_cross_entropy_smooths_labels_over_all_classes() -> None:
    expected = 0.0
    for row, label in zip(TASK, LABELS, strict=True):
        for c, p in enumerate(softmax(row)):
            expected -= ((0.9 if c == label else 0) + 0.1 / 3) * math.log(p) / 4
    value = losses.cross_entropy(tensor(TASK), torch.tensor(LABELS), 0.1)
    assert value.item() == pytest.approx(expected, rel=1e-12)


def naive_fixmatch(
    weak: list[list[float]], strong: list[list[float]], threshold: float, kept: list[int]
) -> float:
    total = 0.0
    for row, other in zip(weak, strong, strict=True):
        p = softmax(row)
        confidence, label = max((p[c], c) for c in kept)
        if confidence >= threshold:
            total -= math.log(softmax(other)[label])
    return total / len(weak)


@pytest.mark.parametrize("threshold", [0.0, 0.7, 0.9, 0.97])
@pytest.mark.parametrize("kept", [[0, 1, 2], [0, 2], [1]])
def test_fixmatch_equals_the_loop(threshold: float, kept: list[int]) -> None:
    mask = torch.zeros(3, dtype=torch.float64)
    mask[kept] = 1
    value = losses.fixmatch(tensor(TASK), tensor(CLIP), threshold, mask)
    expected = naive_fixmatch(TASK, CLIP, threshold, kept)
    assert value.item() == pytest.approx(expected, rel=1e-12)
    if len(kept) == 3:
        assert losses.fixmatch(tensor(TASK), tensor(CLIP), threshold).item() == value.item()


def test_fixmatch_without_a_confident_image_is_zero_with_zero_gradient() -> None:
    strong = tensor(CLIP).requires_grad_()
    value = losses.fixmatch(tensor(TASK), strong, 0.999)
    value.backward()
    assert value.item() == 0 and strong.grad is not None and not strong.grad.any()


def test_fixmatch_teaches_the_strong_view_alone() -> None:
    weak, strong = tensor(TASK).requires_grad_(), tensor(CLIP).requires_grad_()
    losses.fixmatch(weak, strong, 0.7).backward()
    assert weak.grad is None and strong.grad is not None
    for i, (row, other) in enumerate(zip(TASK, CLIP, strict=True)):
        p, q = softmax(row), softmax(other)
        for c in range(3):
            slope = (q[c] - (c == p.index(max(p)))) / 4 if max(p) >= 0.7 else 0.0
            assert strong.grad[i, c].item() == pytest.approx(slope, abs=1e-12)
