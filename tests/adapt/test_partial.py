"""CMKD's partial-set variant finds out which classes the target has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from adapt.clip.model import Clip
from adapt.data.transforms import normalise
from adapt.methods.cmkd import CMKD, CMKDConfig
from adapt.optim.averaging import WeightAverage
from adapt.optim.optimization import Optimization
from adapt.training import checkpoint
from adapt.training.batches import Stream
from runtime.errors import TrainingError

pytestmark = pytest.mark.usefixtures("cache")

SIDE, COUNT, MINIMUM = 40, 30, 8


@pytest.fixture
def make(
    small_clip: Callable[[str], Clip], prompts: Sequence[str]
) -> Callable[..., tuple[CMKD, Stream]]:
    """A method that prefers two of three classes on thirty images, and these as its target."""

    def build(**changes: object) -> tuple[CMKD, Stream]:
        config = CMKDConfig(
            **{"partial": True, "partial_minimum": MINIMUM, "eval_batch_size": 7, **changes}
        )
        clip = small_clip("resnet")
        method = CMKD(clip, prompts, config)
        noise = np.random.default_rng(3)
        tint = noise.integers(0, 200, (COUNT, 1, 1, 3))
        pixels = (tint + noise.integers(0, 56, (COUNT, SIDE, SIDE, 3))).astype(np.uint8)
        device = torch.device("cpu")
        target = Stream("target", pixels, None, CMKDConfig(batch_size=4), clip, device, digest="")
        weight = torch.randn(3, 16, generator=torch.Generator().manual_seed(3))
        with torch.no_grad():
            method.head.linear.weight.copy_(weight)
            features = method.encode(resized(pixels))
            method.head.bn.running_mean.copy_(features.mean(0))
            method.head.bn.running_var.copy_(features.var(0))
            rarest = method.head(features).argmax(-1).bincount(minlength=3).argmin()
            method.head.linear.weight[rarest] *= 0.5
        method.prepare(target, target)
        return method, target

    return build


def resized(pixels: np.ndarray) -> Tensor:
    planes = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
    small = [functional.resize(plane, [32, 32], antialias=True) for plane in planes]
    return normalise(torch.stack(small).permute(0, 2, 3, 1))


def naive(method: CMKD, target: Stream, minimum: int) -> list[float]:
    counts = [0, 0, 0]
    with torch.no_grad():
        for image in resized(target.pixels):
            counts[int(method.eval().logits(image[None]).argmax())] += 1
    assert sum(counts) == COUNT and min(counts) < minimum <= max(counts)
    return [float(count >= minimum) for count in counts]


def test_from_the_second_epoch_classes_predicted_often_enough_are_kept(make) -> None:
    method, target = make()
    assert method.kept.tolist() == [1, 1, 1]
    method.train()
    method.start_epoch(0)
    assert method.kept.tolist() == [1, 1, 1]
    method.start_epoch(1)
    assert method.kept.tolist() == naive(method, target, MINIMUM)


def test_the_classes_are_counted_anew_in_every_epoch(make) -> None:
    method, target = make()
    method.start_epoch(1)
    before = method.kept.tolist()
    with torch.no_grad():
        method.head.linear.weight.copy_(method.head.linear.weight.roll(1, 0))
    method.start_epoch(2)
    assert method.kept.tolist() == naive(method, target, MINIMUM) != before


def test_a_checkpoint_holds_the_classes(make, tmp_path: Path) -> None:
    method, _ = make()
    method.start_epoch(1)
    optimization = Optimization(method.parameter_groups(), method.config)
    path = tmp_path / "checkpoint"
    average = WeightAverage(method, optimization)
    checkpoint.save(path, {}, checkpoint.Progress(3), method, optimization, average)
    other, _ = make()
    optimization = Optimization(other.parameter_groups(), other.config)
    checkpoint.load(path, {}, other, optimization, WeightAverage(other, optimization))
    assert other.kept.tolist() == method.kept.tolist() != [1, 1, 1]


def test_without_the_variant_there_is_no_such_state(make) -> None:
    method, _ = make(partial=False)
    method.start_epoch(1)
    assert method.kept is None and "kept" not in method.state_dict()


def test_a_target_without_a_frequent_class_is_refused(make) -> None:
    method, _ = make(partial_minimum=COUNT + 1)
    message = "no class is predicted for 31 of the target's 30 images; lower partial_minimum"
    with pytest.raises(TrainingError, match=message):
        method.start_epoch(1)
