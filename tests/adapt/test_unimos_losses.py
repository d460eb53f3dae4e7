"""UniMoS' terms and labels against loops in plain Python, on 4 images and 3 classes."""

from __future__ import annotations

import math

import pytest
import torch

from adapt.methods.parts import unimos_losses as losses

STUDENT = [[2.0, -1.0, 0.5], [0.1, 0.2, 0.3], [-1.5, 3.0, 0.0], [0.0, 0.0, 4.0]]
TEACHER = [[1.0, 0.0, 0.0], [3.0, -2.0, 1.0], [-1.0, 2.0, 1.0], [5.0, 0.0, -5.0]]
VISION = [[0.3, -0.7], [1.1, 0.2], [-0.4, 0.9], [0.5, 0.5]]
LANGUAGE = [[0.9, 0.1], [-0.3, 0.8], [0.2, 0.2], [-1.0, 0.4]]


def softmax(row: list[float]) -> list[float]:
    total = sum(math.exp(z) for z in row)
    return [math.exp(z) / total for z in row]


def tensor(rows: object) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def test_distillation_is_the_mean_kl_of_student_to_teacher() -> None:
    total = 0.0
    for student, teacher in zip(STUDENT, TEACHER, strict=True):
        p, q = softmax(student), softmax(teacher)
        total += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    value = losses.distillation(tensor(STUDENT), tensor(TEACHER))
    assert value.item() == pytest.approx(total / 4, rel=1e-12)


def test_centring_the_teacher_changes_neither_value_nor_gradient() -> None:
    teacher, found = tensor(TEACHER), []
    for rows in (teacher, teacher - teacher.mean(-1, keepdim=True)):
        leaf = tensor(STUDENT).requires_grad_()
        value = losses.distillation(leaf, rows)
        value.backward()
        found.append((value.detach(), leaf.grad))
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-15)


def test_information_maximisation_equals_the_loop() -> None:
    p = [softmax(row) for row in STUDENT]
    mean = [sum(row[k] for row in p) / 4 for k in range(3)]
    each = [-sum(a * math.log(a + 1e-5) for a in row) for row in p]
    expected = sum(each) / 4 + sum(a * math.log(a + 1e-5) for a in mean)
    value = losses.information_maximisation(tensor(STUDENT))
    assert value.item() == pytest.approx(expected, rel=1e-12)


def test_information_is_greatest_for_sure_and_balanced_predictions() -> None:
    sure = 50 * torch.eye(3, dtype=torch.float64)
    assert losses.information_maximisation(sure).item() == pytest.approx(-math.log(3), abs=5e-5)
    assert losses.information_maximisation(sure[:1].repeat(3, 1)).item() == pytest.approx(0)


def test_separation_sums_the_squared_dot_products_of_pairs() -> None:
    expected = sum(
        sum(a * b for a, b in zip(v, u, strict=True)) ** 2
        for v, u in zip(VISION, LANGUAGE, strict=True)
    )
    value = losses.separation(tensor(VISION), tensor(LANGUAGE))
    assert value.item() == pytest.approx(expected, rel=1e-12)


def test_discrimination_is_binary_cross_entropy_with_language_as_one() -> None:
    logits, expected = [0.4, -1.2, 3.0, 2.0, -0.1, 0.0], 0.0
    for position, z in enumerate(logits):
        p = 1 / (1 + math.exp(-z))
        expected -= math.log(p if position % 2 else 1 - p) / len(logits)
    assert losses.discrimination(tensor(logits)).item() == pytest.approx(expected, rel=1e-12)


def test_centroid_labels_equal_the_loop_over_images() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(200, 6, generator=generator, dtype=torch.float64)
    features /= features.norm(dim=-1, keepdim=True)
    p = (3 * torch.randn(200, 5, generator=generator, dtype=torch.float64)).softmax(-1)
    rows, shares = features.tolist(), p.tolist()
    centroids = []
    for k in range(5):
        mass = 1e-8 + sum(share[k] for share in shares)
        centroids.append(
            [sum(s[k] * f[d] for s, f in zip(shares, rows, strict=True)) / mass for d in range(6)]
        )
    expected = []
    for row in rows:
        cosines = [
            sum(a * b for a, b in zip(row, c, strict=True)) / math.hypot(*c) for c in centroids
        ]
        expected.append(cosines.index(max(cosines)))
    found = losses.centroid_labels(features, p)
    assert found.tolist() == expected
    assert len(set(expected)) == 5
    assert 0.1 < float((found == p.argmax(-1)).double().mean()) < 0.9  # not just the largest p


def test_a_class_without_mass_attracts_no_image() -> None:
    p = torch.eye(4, dtype=torch.float64)[torch.tensor([0, 1, 3, 0])]
    found = losses.centroid_labels(torch.nn.functional.normalize(tensor(VISION), dim=-1), p)
    assert 2 not in found.tolist()
