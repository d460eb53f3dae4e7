"""Affine maps against Pillow and torchvision, image by image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode, functional

from adapt.data.warp import about_centre, rotations, warp

pytestmark = pytest.mark.usefixtures("cache")

FILL = (123, 117, 104)


def images(count: int, side: int = 21) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, side, side), generator=generator).to(torch.uint8)


def as_pillow(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def difference(found: Tensor, expected: Image.Image) -> float:
    pixels = np.asarray(expected).transpose(2, 0, 1).astype(float)
    return float(np.abs(found.numpy() - pixels).max())


def test_any_map_reads_as_pillows_transform() -> None:
    maps = torch.eye(2, 3).repeat(6, 1, 1)
    maps += torch.randn(6, 2, 3, generator=torch.Generator().manual_seed(2)) * 0.2
    maps[:, :, 2] *= 30
    found = warp(images(6), maps, FILL)
    for image, matrix, mine in zip(images(6), maps.double(), found, strict=True):
        expected = as_pillow(image).transform(
            (21, 21), Image.Transform.AFFINE, matrix.flatten().tolist(),
            Image.Resampling.BILINEAR, fillcolor=FILL,
        )  # fmt: skip
        assert difference(mine, expected) < 1.01  # Pillow cuts the fraction off


@pytest.mark.parametrize("side", [20, 21])
def test_a_rotation_is_pillows(side: int) -> None:
    degrees = torch.tensor([-30.0, -7.0, 0.0, 12.5, 30.0])
    found = warp(images(5, side), about_centre(rotations(degrees), side), FILL)
    for image, angle, mine in zip(images(5, side), degrees.tolist(), found, strict=True):
        expected = as_pillow(image).rotate(angle, Image.Resampling.BILINEAR, fillcolor=FILL)
        assert difference(mine, expected) < 1.01


def test_inside_the_image_a_turn_and_a_shift_are_torchvisions_affine() -> None:
    degrees, shift = torch.tensor([10.0, -25.0]), torch.tensor([[3.0, -2.0], [0.0, 4.0]])
    maps = about_centre(rotations(degrees), 21, shift.double())
    found = warp(images(2).float(), maps, (0, 0, 0))
    for image, angle, (x, y), mine in zip(images(2), degrees, shift, found, strict=True):
        expected = functional.affine(
            image.float(), -float(angle), [float(x), float(y)], 1.0, [0.0],
            InterpolationMode.BILINEAR,
        )  # fmt: skip
        inner = (slice(None), slice(7, 14), slice(7, 14))
        torch.testing.assert_close(mine[inner], expected[inner], rtol=0, atol=1e-2)


def test_without_a_fill_the_border_is_repeated() -> None:
    maps = torch.tensor([[[1.0, 0, -6], [0, 1, 2]]])  # the picture moves right by 6 and up by 2
    found, image = warp(images(1), maps), images(1).float()
    torch.testing.assert_close(found[..., :19, 6:], image[..., 2:, :15], rtol=0, atol=1e-3)
    torch.testing.assert_close(
        found[..., :19, :6], image[..., 2:, :1].expand(-1, -1, -1, 6), rtol=0, atol=1e-3
    )
    torch.testing.assert_close(
        found[..., 19:, 6:], image[..., -1:, :15].expand(-1, -1, 2, -1), rtol=0, atol=1e-3
    )


def test_the_identity_gives_the_image_back() -> None:
    found = warp(images(3), torch.eye(2, 3).repeat(3, 1, 1), FILL)
    torch.testing.assert_close(found, images(3).float(), rtol=0, atol=1e-3)
