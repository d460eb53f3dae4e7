import numpy as np
import pytest
import torch
from torch.nn.functional import pad as pad_tensor

from adapt.data.transforms import augment, normalise
from runtime.errors import ConfigError

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def pixels(count=6, side=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, side, side, 3), generator=generator, dtype=torch.uint8)


def naive(images, size, pad, flip, seed):
    """Pad, crop, flip and normalise one image after the other."""
    generator = torch.Generator().manual_seed(seed)
    room = images.shape[1] + 2 * pad - size
    offsets = torch.randint(0, room + 1, (len(images), 2), generator=generator)
    flips = torch.rand(len(images), generator=generator) < 0.5
    result = []
    for image, (top, left), mirrored in zip(images, offsets.tolist(), flips, strict=True):
        planes = image.permute(2, 0, 1).float()[None]
        padded = pad_tensor(planes, (pad,) * 4, mode="replicate")[0]
        crop = padded[:, top : top + size, left : left + size]
        if flip and mirrored:
            crop = crop.flip(2)
        shift, scale = (torch.tensor(x).view(3, 1, 1) for x in (MEAN, STD))
        result.append((crop / 255 - shift) / scale)
    return torch.stack(result)


@pytest.mark.parametrize(("size", "pad"), [(12, 0), (8, 0), (12, 2), (9, 3), (14, 1), (20, 4)])
@pytest.mark.parametrize("flip", [True, False])
def test_augment_equals_a_loop_over_the_images(size, pad, flip):
    for seed in range(5):
        images = pixels(seed=seed)
        got = augment(images, size, pad, flip, torch.Generator().manual_seed(seed))
        assert got.shape == (6, 3, size, size) and got.dtype == torch.float32
        assert torch.equal(got, naive(images, size, pad, flip, seed))


def test_every_offset_and_both_orientations_occur_about_equally_often():
    ramp = torch.arange(12, dtype=torch.uint8)
    image = torch.stack([ramp[:, None].expand(12, 12), ramp.expand(12, 12), ramp.expand(12, 12)], 2)
    batch = image.expand(4000, 12, 12, 3)
    out = augment(batch, 10, 0, True, torch.Generator().manual_seed(0), (0, 0, 0), (1, 1, 1)) * 255
    tops = out[:, 0, 0, 0].round().long()
    lefts = out[:, 1, 0].amin(1).round().long()
    mirrored = out[:, 1, 0, 0] > out[:, 1, 0, 9]
    for values in (tops, lefts):
        assert (values.bincount(minlength=3) / 4000).tolist() == pytest.approx(
            [1 / 3] * 3, abs=0.03
        )
    assert mirrored.float().mean().item() == pytest.approx(0.5, abs=0.03)


def test_draws_depend_on_the_generator_alone_and_advance_it():
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(7)
    first, second = (augment(pixels(), 8, 2, True, generator) for _ in range(2))
    torch.manual_seed(99)
    again = augment(pixels(), 8, 2, True, torch.Generator().manual_seed(7))
    assert torch.equal(first, again) and not torch.equal(first, second)


def test_the_images_are_not_changed():
    images = pixels()
    before = images.clone()
    augment(images, 8, 2, True, torch.Generator())
    assert torch.equal(images, before)


def test_normalise_equals_the_formula_in_double_precision():
    images = pixels(3, 5)
    expected = (images.numpy().astype(np.float64) / 255 - MEAN) / STD
    got = normalise(images)
    assert got.shape == (3, 3, 5, 5)
    np.testing.assert_allclose(got.numpy(), expected.transpose(0, 3, 1, 2), atol=5e-7)


def test_other_statistics_are_used_when_given():
    got = normalise(torch.full((1, 1, 1, 3), 255, dtype=torch.uint8), (0.5, 0.25, 0), (0.5, 1, 2))
    assert got.flatten().tolist() == [1.0, 0.75, 0.5]


def test_a_crop_that_does_not_fit_says_what_to_set():
    with pytest.raises(
        ConfigError, match="crop of 32 pixels does not fit into training images of 12"
    ):
        augment(pixels(), 32, 2, True, torch.Generator())


def test_the_result_is_on_the_device_of_the_images():
    out = augment(pixels().to("meta"), 8, 2, True, torch.Generator())
    assert out.device.type == "meta" and out.shape == (6, 3, 8, 8)
