"""Strong views: crop, jitter, the mild view, the draws."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from adapt.data.randaugment import randaugment
from adapt.data.strong import MIXES, Kind, jitter, mild_maps, strong
from adapt.data.transforms import augment

pytestmark = pytest.mark.usefixtures("cache")

SIDE = 20
FILL = (123, 117, 104)
MEAN = tuple(value / 255 for value in FILL)


def pixels(count: int, side: int = SIDE) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, side, side, 3), generator=generator).to(torch.uint8)


def view(images: Tensor, kind: Kind = "randaugment", seed: int = 0, flip: bool = True) -> Tensor:
    """The view in bytes."""
    out = strong(images, SIDE, kind, flip, torch.Generator().manual_seed(seed), MEAN, (1, 1, 1))
    return (out + torch.tensor(MEAN).view(3, 1, 1)) * 255


@pytest.mark.parametrize("side", [20, 24, 27, 16])
def test_the_view_is_made_of_the_centre_jittered_then_randaugmented(side: int) -> None:
    planes = pixels(16, side).permute(0, 3, 1, 2)
    if side < SIDE:  # the border is repeated
        expected = torch.nn.functional.pad(planes.float(), (2,) * 4, mode="replicate")
    else:
        expected = functional.center_crop(planes, [SIDE, SIDE])
    expected, generator = expected.to(torch.uint8), torch.Generator().manual_seed(5)
    jitter(expected, MIXES, generator)
    randaugment(expected, FILL, generator)
    found = view(pixels(16, side), seed=5, flip=False)
    torch.testing.assert_close(found, expected.float(), rtol=0, atol=1e-3)


def test_half_of_the_views_are_mirrored_if_wanted() -> None:
    ramp = torch.arange(SIDE, dtype=torch.uint8) * 10 + 30
    images = ramp[:, None].expand(300, SIDE, SIDE, 3)
    for flip, expected in ((True, 0.5), (False, 1.0)):
        out = view(images, "mild", flip=flip).mean(1)
        rising = (out[..., -4:].mean((1, 2)) > out[..., :4].mean((1, 2))).double().mean()
        assert rising.item() == pytest.approx(expected, abs=0.08)


def test_the_jitter_does_every_change_in_every_order() -> None:
    calls: list[tuple[str, Tensor]] = []

    def change(name: str):
        def do(images: Tensor, strength: Tensor) -> Tensor:
            calls.append((name, strength))
            return images

        return do

    table = [(change("a"), 1.0, 0.4), (change("b"), 0.0, 0.1), (change("c"), 1.0, 0.4)]
    jitter(torch.zeros(3000, 3, 1, 1), table, torch.Generator().manual_seed(0))
    assert len(calls) == 9  # each change in each of three turns
    for name, _, spread in zip("abc", *zip(*[t[1:] for t in table], strict=True), strict=True):
        strengths = [s for n, s in calls if n == name]
        assert [len(s) / 3000 for s in strengths] == pytest.approx([1 / 3] * 3, abs=0.03)
        every = torch.cat(strengths)
        middle = every.mean().item()
        assert middle == pytest.approx(0.0 if name == "b" else 1.0, abs=0.02)
        assert every.min().item() == pytest.approx(middle - spread, abs=0.02)
        assert every.max().item() == pytest.approx(middle + spread, abs=0.02)


def test_the_mild_view_moves_points_as_it_says() -> None:
    maps = mild_maps(4000, 100, torch.Generator().manual_seed(0))
    linear = maps[..., :2].inverse()  # from the image to the view
    moved = (linear @ (50 - maps[..., 2])[..., None])[..., 0] - 50  # where the centre goes
    assert moved.abs().amax(0).tolist() == pytest.approx([12, 12], abs=0.1)
    size = linear.det().sqrt()
    assert (size.min().item(), size.max().item()) == pytest.approx((0.85, 1.15), abs=0.001)
    across, down = linear[..., 0], linear[..., 1]
    assert torch.atan2(across[:, 1], across[:, 0]).rad2deg().abs().max().item() < 20.1
    cosine = (across * down).sum(1) / (across.norm(dim=1) * down.norm(dim=1))
    assert cosine.asin().rad2deg().abs().max().item() == pytest.approx(8, abs=0.05)


def test_mild_views_differ_and_are_the_image_on_average() -> None:
    ramp = torch.linspace(60, 190, SIDE)
    image = torch.stack(torch.meshgrid(ramp, ramp, indexing="ij"), -1)
    image = torch.cat([image, image[..., :1].flip(0)], -1).to(torch.uint8)
    planes = image.permute(2, 0, 1)
    out = view(image.expand(200, -1, -1, -1), "mild", flip=False)
    error = (out - planes).abs().mean((1, 2, 3))
    assert error.min().item() > 3 and error.max().item() < 80
    assert (out.mean(0) - planes).abs().mean().item() < 12


@pytest.mark.parametrize("kind", ["randaugment", "mild"])
def test_views_depend_on_the_generator_alone_and_leave_the_images(kind: Kind) -> None:
    images = pixels(8)
    torch.manual_seed(0)
    first, other = view(images, kind), view(images, kind, seed=1)
    torch.manual_seed(1)
    assert torch.equal(view(images, kind), first) and not torch.equal(first, other)
    assert torch.equal(images, pixels(8))
    assert first.shape == (8, 3, SIDE, SIDE) and first.dtype == torch.float32


@pytest.mark.parametrize("kind", ["randaugment", "mild"])
def test_the_memory_is_laid_out_like_the_weak_views(kind: Kind) -> None:
    generator = torch.Generator().manual_seed(0)
    weak = augment(pixels(8), SIDE, 0, True, generator)
    assert strong(pixels(8), SIDE, kind, True, generator).stride() == weak.stride()
