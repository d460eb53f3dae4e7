import dataclasses

import numpy as np
import pytest
from torch import nn

from adapt.clip.model import encoder_tensors
from export.graphs import encoders
from export.graphs.encoder import deploy_tensors, encoder_graph
from export.verification.comparison import Reference, check, compare
from export.verification.images import Sample
from export.verification.verifier import run
from runtime.benchmark.tolerances import TOLERANCES
from runtime.errors import VerifyError
from runtime.models import Preprocess
from tests.export.helpers import random_pixels, run_onnx, torch_features, vit


def sample(count=40, size=8, labels=None):
    labels = np.full(count, -1) if labels is None else labels
    return Sample(random_pixels(count, size), labels, available=100)


def logits(count=40, classes=5, seed=0):
    return np.random.default_rng(seed).standard_normal((count, classes), np.float32)


def reference(count=40, distance=0.1, adapted=True):
    merged = logits(count)
    base = merged + np.float32(distance) * logits(count, seed=1) if adapted else merged
    return Reference(merged, base, adapted)


def test_numbers_are_those_of_a_loop_over_the_images():
    expected, found = reference(), reference().merged + np.float32(0.3) * logits(seed=2)
    labels = np.arange(40) % 5
    labels[:10] = -1
    result = compare("a-b", found, expected, sample(labels=labels))
    rows = list(zip(found.tolist(), expected.merged.tolist(), expected.base.tolist(), strict=True))
    top = [max(range(5), key=row.__getitem__) for row, _, _ in rows]
    torch_top = [max(range(5), key=row.__getitem__) for _, row, _ in rows]
    gaps = [abs(a - b) for row, other, _ in rows for a, b in zip(row, other, strict=True)]
    base_gaps = [abs(a - b) for row, _, other in rows for a, b in zip(row, other, strict=True)]
    assert result.agreement == sum(a == b for a, b in zip(top, torch_top, strict=True)) / 40
    assert result.max_difference == pytest.approx(max(gaps), rel=1e-6)
    assert result.spread == pytest.approx(sum(max(r) - min(r) for _, r, _ in rows) / 40, rel=1e-6)
    assert result.distance_merged == pytest.approx(sum(gaps) / 200, rel=1e-5)
    assert result.distance_base == pytest.approx(sum(base_gaps) / 200, rel=1e-5)
    right = [a == b for a, b in zip(top, labels.tolist(), strict=True) if b >= 0]
    assert result.accuracy_engine == pytest.approx(100 * sum(right) / 30)
    assert (result.images, result.available, result.labelled) == (40, 100, 30)


@pytest.mark.parametrize("precision", TOLERANCES)
def test_equal_engine_passes(precision):
    expected = reference()
    check(compare("a-b", expected.merged, expected, sample(labels=np.arange(40) % 5)), precision)


def test_one_image_with_another_class_fails_fp32():
    expected = reference()
    found = expected.merged.copy()
    found[7] = found[7][::-1]
    with pytest.raises(VerifyError, match="task 'a-b' in fp32.*on 97.50% of 40 images, needed 100"):
        check(compare("a-b", found, expected, sample()), "fp32")


def test_logits_beyond_the_tolerance_fail_fp32_although_every_class_agrees():
    expected = reference()
    found = expected.merged * np.float32(1.003)
    with pytest.raises(VerifyError, match=r"differs by 0.00\d+ in a logit, allowed 0.002"):
        check(compare("a-b", found, expected, sample()), "fp32")


def test_lost_accuracy_fails_fp16_and_the_message_says_fp32():
    expected = reference(count=200, distance=3)
    labels = expected.merged.argmax(-1)
    found = expected.merged.copy()
    found[:3] = found[:3, ::-1]  # 98.5 % agreement is enough, 1.5 points of accuracy are not
    result = compare("a-b", found, expected, sample(200, labels=labels))
    with pytest.raises(VerifyError, match=r"98.50 % accuracy where PyTorch has 100.00 %.*fp32"):
        check(result, "fp16")
    check(dataclasses.replace(result, accuracy_torch=None), "fp16")


def test_engine_nearer_to_the_base_fails():
    expected = reference(distance=1e-3)
    with pytest.raises(VerifyError, match="nearer to the unadapted model than to the adapted one"):
        check(compare("a-b", expected.base, expected, sample()), "fp16")


def test_untouched_encoder_has_no_base_to_be_near_to():
    expected = reference(adapted=False)
    result = compare("a-b", expected.merged, expected, sample())
    assert result.distance_base is None
    check(result, "fp32")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_not_finite_fail(value):
    found = reference().merged.copy()
    found[3, 2] = value
    with pytest.raises(VerifyError, match="not finite"):
        compare("a-b", found, reference(), sample())


def test_logits_of_another_shape_fail():
    with pytest.raises(VerifyError, match=r"shape \(40, 4\).*PyTorch's are \(40, 5\)"):
        compare("a-b", reference().merged[:, :4], reference(), sample())


def test_engine_with_the_wrong_activation_fails():
    right, wrong = vit(), vit(nn.GELU)
    form = encoders.get(wrong)
    tensors = deploy_tensors(form, encoder_tensors(wrong), "fp32")
    graph = encoder_graph(form, tensors, Preprocess(32)).SerializeToString()
    images = sample(size=32)
    found = run_onnx(graph, {"pixels": images.pixels, **tensors})
    expected = torch_features(right, images.pixels)
    result = compare("a-b", found, Reference(expected, expected, adapted=False), images)
    with pytest.raises(VerifyError, match="differs by"):
        check(result, "fp32")


def test_engine_sees_every_image_once_and_in_order():
    seen, done = [], []
    pixels = random_pixels(70, 2)

    def infer(batch):
        seen.append(len(batch))
        return batch.reshape(len(batch), -1).astype(np.float32)

    found = run(infer, pixels, done.append)
    assert np.array_equal(found, pixels.reshape(70, -1))
    assert seen == [32, 32, 6] and done == [32, 64, 70]
