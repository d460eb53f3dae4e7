"""Apply RandAugment (Cubuk et al., CVPR workshops 2020, arXiv:1909.13719) to image batches.

The fifteen operations, their ranges and the noise on the magnitude are those of timm's
`rand-n2-m10-mstd0.5`, which CMKD's released code uses. Images that drew the same operation are
computed together.

Deviation: the released code reads geometry bilinearly or bicubically by chance, here bilinearly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from adapt.data import colour
from adapt.data.transfer import to_device
from adapt.data.warp import about_centre, rotations, warp

Change = Callable[[Tensor, Tensor], Tensor]
"""Function of images (N, 3, S, S) uint8 and strengths (N,) that returns fresh images."""

LAYERS, MAGNITUDE, DEVIATION, PROBABILITY = 2, 10.0, 0.5, 0.5
"""Number of operations drawn with replacement, probability of each, and mean and deviation of its
magnitude, which is normal and cut to [0, 10]."""
COLOURS: dict[str, tuple[Change, Callable[[Tensor], Tensor]]] = {
    "autocontrast": (colour.autocontrast, lambda m: m),
    "equalize": (colour.equalize, lambda m: m),
    "invert": (colour.invert, lambda m: m),
    "posterize": (colour.posterize, lambda m: (m * 4).floor()),
    "solarize": (colour.solarize, lambda m: (m * 256).floor()),
    "solarize-add": (colour.solarize_add, lambda m: (m * 110).floor()),
    "color": (colour.saturation, lambda m: m * 1.8 + 0.1),
    "contrast": (colour.contrast, lambda m: m * 1.8 + 0.1),
    "brightness": (colour.brightness, lambda m: m * 1.8 + 0.1),
    "sharpness": (colour.sharpness, lambda m: m * 1.8 + 0.1),
}
"""The colour operations and their strength at a tenth of the magnitude, m in [0, 1]. Posterize and
solarize get weaker as m grows: at 1 they keep 4 bits, and invert nothing."""
WARPS = ("rotate", "shear-x", "shear-y", "translate-x", "translate-y")
"""The geometric ones, of either sign: 30 m degrees; 0.3 m, about the corner; 0.45 m of the side."""


def randaugment(images: Tensor, fill: Sequence[float], generator: Generator) -> None:
    """Augment images in place.

    Args:
        images: Images (N, 3, S, S) uint8, on any device.
        fill: Colour in 0..255 of what geometry brings in.
        generator: Generator on the CPU; advanced in place.
    """
    operations, magnitudes = draw(len(images), generator)
    for mine, m in zip(operations.T, magnitudes.T, strict=True):
        for number, (change, strength) in enumerate(COLOURS.values()):
            apply(images, mine == number, change, strength(m.abs()))
        which = (mine >= len(COLOURS)).nonzero()[:, 0]
        if len(which):
            maps = warp_maps(mine[which] - len(COLOURS), m[which], images.shape[-1])
            there = to_device(which, images.device)
            turned = warp(images.index_select(0, there), maps, fill)
            images.index_copy_(0, there, turned.round_().to(torch.uint8))


def draw(count: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Draw the operations of `count` images in each layer.

    Returns:
        (count, LAYERS) int64, positions in `COLOURS` and then `WARPS`, -1 for nothing; and float64
        in [-1, 1], a tenth of the magnitude with the sign that geometry takes.
    """
    shape = (count, LAYERS)
    operations = torch.randint(len(COLOURS) + len(WARPS), shape, generator=generator)
    done = torch.rand(shape, generator=generator) < PROBABILITY
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    sign = 1 - 2 * torch.randint(2, shape, generator=generator)
    m = (MAGNITUDE + DEVIATION * noise).clamp(0, 10) / 10
    return torch.where(done, operations, -1), m * sign


def warp_maps(which: Tensor, m: Tensor, side: int) -> Tensor:
    """Return the maps (N, 2, 3) of operations (N,) of `WARPS` at magnitudes m (N,) in [-1, 1]."""
    maps = torch.eye(2, 3, dtype=torch.float64).repeat(len(which), 1, 1)
    turned = about_centre(rotations(m * 30), side)
    maps = torch.where((which == 0)[:, None, None], turned, maps)
    entries = [(0, 1, 0.3), (1, 0, 0.3), (0, 2, 0.45 * side), (1, 2, 0.45 * side)]
    for number, (row, column, scale) in enumerate(entries, 1):
        maps[:, row, column] += torch.where(which == number, m * scale, 0)
    return maps


def apply(images: Tensor, where: Tensor, change: Change, strength: Tensor) -> None:
    """Change the images (N, 3, S, S) for which `where` (N,) is true, in place."""
    which = where.nonzero()[:, 0]
    if len(which):
        there = to_device(which, images.device)
        images.index_copy_(0, there, change(images.index_select(0, there), strength[which]))
