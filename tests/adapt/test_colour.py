"""Colour changes against Pillow and torchvision, image by image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor
from torchvision.transforms.v2 import functional

from adapt.data import colour

pytestmark = pytest.mark.usefixtures("cache")

FACTORS = torch.tensor([0.1, 0.6, 1.0, 1.4, 1.9])
Pillow = Callable[[Image.Image, float], Image.Image]


def images(side: int = 24) -> Tensor:
    """Five images: noise, a dull one, one colour, a ramp with extremes, and a dark one."""
    noise = torch.randint(0, 256, (5, 3, side, side), generator=torch.Generator().manual_seed(0))
    noise[1] = noise[1] // 4 + 90
    noise[2] = torch.tensor([10, 200, 90])[:, None, None]
    noise[3] = torch.linspace(0, 255, side).long()
    noise[4] //= 3
    return noise.to(torch.uint8)


def as_pillow(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def check(found: Tensor, reference: Pillow, strengths: Tensor, tolerance: int) -> None:
    assert found.dtype == torch.uint8
    for image, strength, mine in zip(images(), strengths.tolist(), found, strict=True):
        expected = np.asarray(reference(as_pillow(image), strength)).transpose(2, 0, 1)
        difference = np.abs(mine.numpy().astype(int) - expected.astype(int))
        assert difference.max() <= tolerance, (strength, difference.max())


@pytest.mark.parametrize(
    ("change", "pillow"),
    [
        (colour.brightness, ImageEnhance.Brightness),
        (colour.contrast, ImageEnhance.Contrast),
        (colour.saturation, ImageEnhance.Color),
        (colour.sharpness, ImageEnhance.Sharpness),
    ],
)
def test_a_mix_equals_pillows_enhancer(
    change: Callable[[Tensor, Tensor], Tensor],
    pillow: Callable[[Image.Image], ImageEnhance._Enhance],
) -> None:
    found = change(images(), FACTORS)
    check(found, lambda image, factor: pillow(image).enhance(factor), FACTORS, 2)


def test_a_factor_of_one_changes_nothing() -> None:
    one = torch.ones(5)
    for change in (colour.brightness, colour.contrast, colour.saturation, colour.sharpness):
        assert torch.equal(change(images(), one), images())
    assert torch.equal(colour.hue(images(), 0 * one), images())


@pytest.mark.parametrize(
    ("change", "strengths", "pillow", "tolerance"),
    [
        (colour.autocontrast, FACTORS, lambda image, _: ImageOps.autocontrast(image), 1),
        (colour.equalize, FACTORS, lambda image, _: ImageOps.equalize(image), 0),
        (colour.invert, FACTORS, lambda image, _: ImageOps.invert(image), 0),
        (
            colour.posterize,
            torch.tensor([0, 1, 3, 4, 8]),
            lambda image, bits: image.point(lambda byte: byte & (256 - 2 ** (8 - bits))),
            0,
        ),
        (colour.solarize, torch.tensor([0, 1, 128, 243, 256]), ImageOps.solarize, 0),
        (
            colour.solarize_add,
            torch.tensor([0, 7, 90, 105, 110]),
            lambda image, add: image.point(
                [min(255, i + add) if i < 128 else i for i in range(256)] * 3
            ),
            0,
        ),
    ],
)
def test_a_table_of_bytes_equals_pillows(
    change: Callable[[Tensor, Tensor], Tensor], strengths: Tensor, pillow: Pillow, tolerance: int
) -> None:
    check(change(images(), strengths), pillow, strengths, tolerance)


def test_hue_equals_torchvisions() -> None:
    shifts = torch.tensor([-0.5, -0.1, 0.03, 0.1, 0.5])
    found = colour.hue(images(), shifts)
    for image, shift, mine in zip(images(), shifts.tolist(), found, strict=True):
        expected = functional.adjust_hue(image, shift)
        assert (mine.int() - expected.int()).abs().max() <= 1


def test_blur_equals_torchvisions() -> None:
    sigmas = torch.tensor([0.1, 0.4, 0.8, 1.0, 2.5])
    for reach in (1, 3):
        found = colour.blur(images(), sigmas, reach)
        for image, sigma, mine in zip(images(), sigmas.tolist(), found, strict=True):
            expected = functional.gaussian_blur(image, 2 * reach + 1, sigma)
            assert (mine.int() - expected.int()).abs().max() <= 1


def test_nothing_writes_into_its_images() -> None:
    given = images()
    for change in (
        *(colour.brightness, colour.contrast, colour.saturation, colour.sharpness, colour.hue),
        *(colour.autocontrast, colour.equalize, colour.invert, colour.posterize, colour.solarize),
        colour.solarize_add,
    ):
        change(given, FACTORS / 4)
        assert torch.equal(given, images())
