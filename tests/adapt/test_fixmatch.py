"""FixMatch on the way from the stream to the terms of both methods that have a task head."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from adapt.clip.model import Clip
from adapt.compute.seeds import draw_seed
from adapt.data.strong import strong
from adapt.methods.losses import cross_entropy, fixmatch
from adapt.methods.source_only import SourceOnly
from adapt.settings.config import TaskHeadConfig
from adapt.training.batches import Stream

NOISE = np.random.default_rng(0)
pytestmark = pytest.mark.usefixtures("cache")
PIXELS = (NOISE.integers(0, 200, (12, 1, 1, 3)) + NOISE.integers(0, 56, (12, 36, 36, 3))).astype(
    "u1"
)
CONFIG = TaskHeadConfig(batch_size=4, seed=5, fixmatch=0.5, fixmatch_threshold=0.6, strong="mild")


def streams(clip: Clip, config: TaskHeadConfig) -> tuple[Stream, Stream]:
    device, labels = torch.device("cpu"), np.arange(12) % 3
    return (
        Stream("source", PIXELS, labels, config, clip, device, digest=""),
        Stream("target", PIXELS, None, config, clip, device, digest=""),
    )


@pytest.mark.parametrize("kind", ["mild", "randaugment"])
def test_the_target_alone_gets_a_strong_view_drawn_from_the_iteration(
    small_clip: Callable[[str], Clip], kind: str
) -> None:
    clip, config = small_clip("vit"), replace(CONFIG, strong=kind)
    source, target = streams(clip, config)
    batch = target.batch(7)
    pixels = torch.from_numpy(PIXELS[batch.indices])
    generator = torch.Generator().manual_seed(draw_seed(5, "target", "strong", 7))
    expected = strong(pixels, 32, kind, True, generator, clip.mean, clip.std)
    assert batch.strong is not None and torch.equal(batch.strong, expected)
    assert source.batch(7).strong is None


def test_fixmatch_changes_no_other_draw(small_clip: Callable[[str], Clip]) -> None:
    clip = small_clip("vit")
    plain = [s.batch(3) for s in streams(clip, replace(CONFIG, fixmatch=0.0))]
    strongly = [s.batch(3) for s in streams(clip, CONFIG)]
    for one, other in zip(plain, strongly, strict=True):
        assert torch.equal(one.images, other.images) and one.strong is None


def test_crops_and_turns_of_the_settings_reach_the_batches(
    small_clip: Callable[[str], Clip],
) -> None:
    clip = small_clip("vit")
    seen = [
        streams(clip, replace(CONFIG, **changes))[0].batch(0).images
        for changes in ({}, {"crop_min": 0.2}, {"rotate": 20.0},
                        {"crop_min": 0.2, "interpolation": "bicubic"},
                        {"crop_min": 0.2, "crop_max": 0.3})
    ]  # fmt: skip
    assert all(images.shape == (4, 3, 32, 32) for images in seen)
    different = {images.numpy().tobytes() for images in seen}
    assert len(different) == len(seen)


def test_source_only_adds_fixmatch_of_its_head_in_the_released_order(
    small_clip: Callable[[str], Clip], prompts: Sequence[str]
) -> None:
    clip = small_clip("vit")
    method = SourceOnly(clip, prompts, CONFIG).train()
    with torch.no_grad():
        method.head.linear.weight.normal_(generator=torch.Generator().manual_seed(1)).mul_(0.3)
    source, target = (stream.batch(0) for stream in streams(clip, CONFIG))
    head = copy.deepcopy(method.head)  # its BatchNorm sees source, target and strong view in turn
    with torch.no_grad():
        views = (source.images, target.images, target.strong)
        z_s, z_t, z_u = (head(method.encode(images)) for images in views)
        expected = {
            "source": cross_entropy(z_s, source.labels, 0.1).item(),
            "fixmatch": 0.5 * fixmatch(z_t, z_u, 0.6).item(),
        }
    terms = method.losses(source, target, 0)
    assert {n: v.item() for n, v in terms.items()} == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(method.head.bn.running_mean, head.bn.running_mean)
    torch.testing.assert_close(method.head.bn.running_var, head.bn.running_var)
    assert 0 < expected["fixmatch"] != 0.5 * fixmatch(z_t, z_u, 0.0).item()
    terms["fixmatch"].backward()
    assert any(p.grad is not None and p.grad.any() for p in method.encoder.parameters())


def test_source_only_without_fixmatch_does_not_look_at_the_target(
    small_clip: Callable[[str], Clip], prompts: Sequence[str]
) -> None:
    clip, config = small_clip("resnet"), replace(CONFIG, fixmatch=0.0)
    source, target = (stream.batch(0) for stream in streams(clip, config))
    method = SourceOnly(clip, prompts, config).train()
    blank = replace(target, images=target.images * float("nan"))
    terms = method.losses(source, blank, 0)
    assert terms.keys() == {"source"} and bool(terms["source"].isfinite())
    assert bool(method.head.bn.running_mean.isfinite().all())
