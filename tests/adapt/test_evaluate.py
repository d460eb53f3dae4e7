"""Scores against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from adapt.compute.inference import predict
from adapt.evaluation.evaluate import score

CLASSES = ("a", "b", "c", "d")


def logits(predictions: list[int]) -> Tensor:
    return torch.eye(4)[torch.tensor(predictions)]


def test_accuracy_and_recalls_are_those_counted_by_hand() -> None:
    found = score(logits([0, 0, 1, 1, 2]), np.array([0, 0, 0, 1, 1]), CLASSES)
    assert found is not None
    assert found.accuracy == 60.0
    assert found.per_class == {"a": pytest.approx(200 / 3), "b": 50.0, "c": None, "d": None}
    assert found.mean_per_class == pytest.approx((200 / 3 + 50) / 2)
    assert found.images == 5


def test_images_of_unknown_class_do_not_count() -> None:
    found = score(logits([0, 1, 1]), np.array([0, -1, 0]), CLASSES)
    assert found is not None and (found.accuracy, found.images) == (50.0, 2)


def test_no_known_class_means_no_scores() -> None:
    assert score(logits([0, 1]), np.array([-1, -1]), CLASSES) is None


def test_predictions_do_not_depend_on_the_batch_size() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 4, 4, 3), np.uint8)
    pixels.setflags(write=False)  # as a mapped file
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)

    def channel_means(images: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        return images.mean((2, 3))

    whole = predict(channel_means, pixels, 7, mean=mean, std=std)
    torch.testing.assert_close(predict(channel_means, pixels, 3, mean=mean, std=std), whole)
    expected = (pixels.mean((1, 2)) / 255 - mean) / std
    np.testing.assert_allclose(whole.numpy(), expected, rtol=0, atol=1e-5)
