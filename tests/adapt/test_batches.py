"""Batches are functions of the iteration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from adapt.clip.model import Clip
from adapt.methods.cmkd import CMKDConfig
from adapt.settings.config import TrainConfig
from adapt.training.batches import Role, Stream
from runtime.errors import ConfigError, DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (11, 34, 34, 3), np.uint8)
LABELS = np.arange(11)
CONFIG = TrainConfig(batch_size=4, pad=1, seed=5)


@pytest.fixture
def stream(small_clip: Callable[[str], Clip]) -> Callable[..., Stream]:
    clip = small_clip("vit")

    def make(role: Role = "source", config: TrainConfig = CONFIG) -> Stream:
        labels = LABELS if role == "source" else None
        return Stream(role, PIXELS, labels, config, clip, torch.device("cpu"), digest="")

    return make


def test_a_pass_shows_no_image_twice_and_drops_the_rest(stream: Callable[..., Stream]) -> None:
    source = stream()
    for first in (0, 2, 4):
        seen = np.concatenate([source.indices(first), source.indices(first + 1)])
        assert len(set(seen.tolist())) == 8


def test_passes_are_shuffled_anew(stream: Callable[..., Stream]) -> None:
    source = stream()
    assert source.indices(0).tolist() != source.indices(2).tolist()


def test_a_fresh_stream_gives_the_same_batch_at_any_iteration(
    stream: Callable[..., Stream],
) -> None:
    old = stream()
    batches = [old.batch(i) for i in range(8)]
    for i in (7, 3, 4):  # in any order
        new = stream().batch(i)
        assert torch.equal(new.images, batches[i].images)
        assert torch.equal(new.labels, batches[i].labels)
        assert new.labels.tolist() == new.indices.tolist()


def test_an_image_is_cropped_anew_in_every_pass(stream: Callable[..., Stream]) -> None:
    source, crops = stream(), {}
    for i in range(40):  # twenty passes
        batch = source.batch(i)
        for index, image in zip(batch.indices.tolist(), batch.images, strict=True):
            crops.setdefault(index, set()).add(image.numpy().tobytes())
    assert min(len(found) for found in crops.values()) > CONFIG.batch_size


def test_source_and_target_draw_independently(stream: Callable[..., Stream]) -> None:
    assert stream("source").indices(0).tolist() != stream("target").indices(0).tolist()


def test_another_seed_gives_other_batches(stream: Callable[..., Stream]) -> None:
    other = stream(config=replace(CONFIG, seed=6))
    assert stream().indices(0).tolist() != other.indices(0).tolist()


def test_target_labels_are_withheld(stream: Callable[..., Stream]) -> None:
    assert stream("target").batch(0).labels.tolist() == [-1] * 4


def test_a_batch_does_not_touch_the_global_generator(stream: Callable[..., Stream]) -> None:
    state = torch.get_rng_state()
    stream().batch(0)
    assert torch.equal(state, torch.get_rng_state())


def test_too_few_images_for_a_batch_are_refused(stream: Callable[..., Stream]) -> None:
    with pytest.raises(DataError, match="has 11 training images, a batch takes 12"):
        stream(config=replace(CONFIG, batch_size=12))


def test_a_batch_of_one_image_is_refused(stream: Callable[..., Stream]) -> None:
    with pytest.raises(ConfigError, match="batch_size is 1"):
        stream(config=replace(CONFIG, batch_size=1))


def test_reading_ahead_changes_no_batch_in_any_order(small_clip: Callable[[str], Clip]) -> None:
    config = CMKDConfig(batch_size=4, pad=1, seed=5, fixmatch=0.5)
    plain, ahead = (
        Stream(
            "target", PIXELS, None, config, small_clip("vit"), torch.device("cpu"),
            digest="", ahead=each,
        )
        for each in (False, True)
    )  # fmt: skip
    for i in (0, 1, 2, 3, 9, 2, 3, 3, 4):
        one, other = plain.batch(i), ahead.batch(i)
        assert torch.equal(one.images, other.images) and torch.equal(one.indices, other.indices)
        assert one.strong is not None and other.strong is not None
        assert torch.equal(one.strong, other.strong)


def test_an_image_that_cannot_be_read_ahead_is_an_error_of_its_own_batch(
    small_clip: Callable[[str], Clip],
) -> None:
    class Damaged:
        def __len__(self) -> int:
            return len(PIXELS)

        def __getitem__(self, where: np.ndarray) -> np.ndarray:
            if 5 in where:
                raise DataError("'5.png' is damaged")
            return PIXELS[where]

    clip, device = small_clip("vit"), torch.device("cpu")
    made = Stream("source", Damaged(), LABELS, CONFIG, clip, device, digest="", ahead=True)
    for i in range(2):  # a pass is two batches
        if 5 in made.indices(i):
            with pytest.raises(DataError, match="damaged"):
                made.batch(i)
        else:
            made.batch(i)
