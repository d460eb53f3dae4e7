"""Make the strongly augmented views of target images that FixMatch trains on.

`randaugment` is the view of CMKD's released code (arXiv:2408.02192). `mild` is for pictures of few
pixels, which RandAugment at full magnitude can destroy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Generator, Tensor

from adapt.data import colour
from adapt.data.randaugment import Change, apply, randaugment
from adapt.data.transfer import to_device
from adapt.data.transforms import MEAN, STD, centre_crop, normalise
from adapt.data.warp import about_centre, rotations, warp

Kind = Literal["randaugment", "mild"]
Jitter = tuple[Change, float, float]
"""A change, the middle of its strengths and how far they stray from it."""

MIXES: tuple[Jitter, ...] = (
    (colour.brightness, 1.0, 0.4),
    (colour.contrast, 1.0, 0.4),
    (colour.saturation, 1.0, 0.4),
)
HUE: Jitter = (colour.hue, 0.0, 0.1)
_UNIT = 32
"""Side in pixels for which the blur of the mild view is given."""


def strong(
    images: Tensor,
    size: int,
    kind: Kind,
    flip: bool,
    generator: Generator,
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
) -> Tensor:
    """Return a strongly augmented view of each image, normalised.

    Of the centre crop, as in the released code, half of them mirrored if wanted.
    `randaugment`: brightness, contrast and saturation times 0.6..1.4 in random order, then
    `adapt.data.randaugment`, which fills with the mean colour.
    `mild`: the same jitter with a turn of the hue by up to 0.1 of the circle; a rotation by up to
    12 degrees, shift by 0.12 of the side, scale of 0.85..1.15, shear by 8 degrees, the border
    repeated; a Gaussian blur of 0.1..1 pixels at 32 pixels, in proportion at other sizes.
    Every image gets its own draws, made on the CPU, so that a GPU sees the same views.

    Args:
        images: Training pixels (B, R, R, 3) uint8.
        size: Side S of the view.
        kind: Kind of view.
        flip: Whether to mirror an image with probability 1/2.
        generator: Generator on the CPU; advanced in place.
        mean: Mean of RGB in [0, 1]; also the fill colour.
        std: Standard deviation of RGB.

    Returns:
        (B, 3, S, S) float32 on the device of the images.
    """
    count = len(images)
    # Channel by channel in memory: a third faster than pixel by pixel for what follows.
    view = (
        centre_crop(images, size).permute(0, 3, 1, 2).clone(memory_format=torch.contiguous_format)
    )
    if flip:
        mirrored = to_device(torch.rand(count, generator=generator) < 0.5, view.device)
        view = torch.where(mirrored.view(-1, 1, 1, 1), view.flip(3), view)
    if kind == "randaugment":
        jitter(view, MIXES, generator)
        randaugment(view, [min(255, round(255 * value)) for value in mean], generator)
    else:
        jitter(view, (*MIXES, HUE), generator)
        view = warp(view, mild_maps(count, size, generator)).round_().to(torch.uint8)
        sigma = torch.rand(count, generator=generator) * 0.9 + 0.1
        view = colour.blur(view, sigma * size / _UNIT, max(1, size // _UNIT))
    return normalise(view.permute(0, 2, 3, 1).contiguous(), mean, std)


def jitter(images: Tensor, changes: Sequence[Jitter], generator: Generator) -> None:
    """Apply every change to every image in place, in an order and with strengths of its own.

    Args:
        images: Images (N, 3, S, S) uint8.
        changes: Changes to make, at uniform strengths.
        generator: Generator on the CPU; advanced in place.
    """
    shape = (len(images), len(changes))
    order = torch.rand(shape, generator=generator).argsort(1)
    draws = torch.rand(shape, generator=generator) * 2 - 1
    for turn in order.T:
        for number, (change, middle, spread) in enumerate(changes):
            apply(images, turn == number, change, middle + spread * draws[:, number])


def mild_maps(count: int, side: int, generator: Generator) -> Tensor:
    """Return the random maps (N, 2, 3) of the mild view."""
    draws = torch.rand(count, 5, generator=generator, dtype=torch.float64) * 2 - 1
    angle, scale, shear = draws[:, 0] * 12, 1 + 0.15 * draws[:, 1], (draws[:, 2] * 8).deg2rad()
    sheared = torch.eye(2, dtype=torch.float64).repeat(count, 1, 1)
    sheared[:, 0, 1] = shear.tan()
    linear = sheared @ rotations(angle) / scale[:, None, None]
    return about_centre(linear, side, draws[:, 3:] * 0.12 * side)
