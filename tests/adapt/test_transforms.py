import numpy as np
import pytest
import torch
from torch.nn.functional import pad as pad_tensor
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as vision

from adapt.data.transforms import augment, normalise, windows
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


def in_bytes(images):
    return (images * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)) * 255


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    ("size", "areas"), [(10, (0.08, 1.0)), (32, (0.3, 0.9)), (16, (0.75, 1.2))]
)
def test_a_resized_crop_equals_torchvisions_image_by_image(interpolation, size, areas):
    images = pixels(20, 24)
    kwargs = {"crop_min": areas[0], "crop_max": areas[1], "interpolation": interpolation}
    got = augment(images, size, 0, True, torch.Generator().manual_seed(3), **kwargs)
    generator = torch.Generator().manual_seed(3)
    boxes = windows(20, 24, *areas, generator)
    flips = torch.rand(20, generator=generator) < 0.5
    mode = InterpolationMode(interpolation)
    for image, box, flip, mine in zip(images, boxes.tolist(), flips, in_bytes(got), strict=True):
        expected = vision.resized_crop(
            image.permute(2, 0, 1), *box, [size, size], interpolation=mode, antialias=True
        )
        expected = expected.flip(2) if flip else expected
        torch.testing.assert_close(mine, expected.float(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("areas", [(0.08, 1.0), (0.75, 1.2)])
def test_windows_are_drawn_as_by_torchvision(areas):
    """Its draws and ours differ, their distributions do not."""
    found = windows(4000, 50, *areas, torch.Generator().manual_seed(0))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        image = torch.empty(1, 50, 50)
        drawn = [RandomResizedCrop.get_params(image, areas, (3 / 4, 4 / 3)) for _ in range(4000)]
    theirs = torch.tensor(drawn)
    for column in range(4):
        mine, other = (x[:, column].double().sort().values for x in (found, theirs))
        assert (mine - other).abs().mean().item() < 1.0  # of 50 pixels
    for values in (found, theirs):
        assert (values[:, 2:] >= 1).all() and (values[:, :2] + values[:, 2:] <= 50).all()
    whole = [(x[:, 2:] == 50).all(1).double().mean().item() for x in (found, theirs)]
    assert whole[0] == pytest.approx(whole[1], abs=0.03)
    area = found[:, 2:].prod(1) / 2500
    assert area.min().item() > areas[0] - 0.03
    ratio = found[:, 3] / found[:, 2]
    assert 0.7 < ratio.min().item() < 0.8 and 1.25 < ratio.max().item() < 1.45


def test_areas_that_never_fit_give_the_whole_image():
    found = windows(5, 30, 1.5, 2.0, torch.Generator().manual_seed(0))
    assert found.tolist() == [[0, 0, 30, 30]] * 5


def test_a_turned_crop_equals_torchvisions_rotation():
    images = pixels(8, 21)
    got = augment(images, 21, 0, False, torch.Generator().manual_seed(4), rotate=25.0)
    generator = torch.Generator().manual_seed(4)
    torch.randint(0, 1, (8, 2), generator=generator)
    degrees = (torch.rand(8, generator=generator, dtype=torch.float64) * 2 - 1) * 25
    for image, angle, mine in zip(images, degrees.tolist(), in_bytes(got), strict=True):
        plane = image.permute(2, 0, 1).float()
        expected = vision.rotate(plane, angle, interpolation=InterpolationMode.BILINEAR)
        torch.testing.assert_close(mine[:, 5:16, 5:16], expected[:, 5:16, 5:16], rtol=0, atol=0.02)
        corner = mine[:, :2, 0] if abs(angle) > 15 else mine[:, :0, 0]
        assert (corner.abs() < 1e-3).all()  # black


def test_turning_and_resizing_leave_the_other_draws_alone():
    images = pixels(6, 20)
    plain = augment(images, 12, 0, True, torch.Generator().manual_seed(5))
    still = augment(images, 12, 0, True, torch.Generator().manual_seed(5), rotate=1e-9)
    torch.testing.assert_close(still, plain, rtol=0, atol=1e-5)


def test_padding_crops_of_a_random_area_is_refused():
    with pytest.raises(ConfigError, match="pad is 2, but crops of a random area"):
        augment(pixels(), 8, 2, True, torch.Generator(), crop_min=0.5)
