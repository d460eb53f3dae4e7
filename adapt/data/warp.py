"""Warp image batches by affine maps, one map per image, on any device.

A map is written as Pillow writes it: it takes the position of a pixel of the *result* to where that
pixel is read in the image. Positions are in pixels from the top left corner; the first pixel's
centre is at (0.5, 0.5).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from adapt.data.transfer import constant, to_device


def warp(images: Tensor, maps: Tensor, fill: Sequence[float] | None = None) -> Tensor:
    """Return images (N, 3, S, S), float32 or uint8, read bilinearly through their maps, float32.

    Pillow's rule at the border: a position inside the image is read from the pixels there are, one
    outside has the fill colour, unmixed. Pillow cuts to whole numbers; nothing is rounded here.

    Args:
        images: Square images with values in any range.
        maps: Maps (N, 2, 3), rows (x, y) over columns (x, y, 1), of any device and precision.
        fill: Colour outside the image in the images' units; None repeats the border.
    """
    side = images.shape[-1]
    # grid_sample counts from -1 to 1 between the outer edges of the first and the last pixel.
    theta = maps.double().clone()
    theta[..., 2] += (theta[..., :2].sum(-1) - 1) * (side / 2)
    theta[..., 2] *= 2 / side
    theta = to_device(theta.float(), images.device)
    centres = (torch.arange(side, device=images.device) * 2 + 1) / side - 1
    across, down, start = (theta[..., i, None, None] for i in range(3))  # (N, 2, 1, 1)
    x, y = (across * centres + (down * centres[:, None] + start)).unbind(1)  # (N, S, S)
    read = grid_sample(
        images.float(), torch.stack([x, y], -1), "bilinear", "border", align_corners=False
    )
    if fill is None:
        return read
    inside = ((x >= -1) & (x < 1) & (y >= -1) & (y < 1))[:, None]
    colour = constant(tuple(fill), images.device).view(3, 1, 1)
    return torch.where(inside, read, colour)


def about_centre(linear: Tensor, side: int, shift: Tensor | None = None) -> Tensor:
    """Return maps (N, 2, 3) that keep the centre of a square image where it is.

    Args:
        linear: Maps (N, 2, 2) from positions of the result to positions in the image, float64.
        side: Side of the image in pixels.
        shift: Distances (N, 2) by which the picture moves afterwards, (x, y) in pixels.
    """
    centre = torch.full((2,), side / 2, dtype=linear.dtype)
    moved = centre if shift is None else centre + shift
    offset = centre - (linear @ moved.expand(len(linear), 2)[..., None])[..., 0]
    return torch.cat([linear, offset[..., None]], -1)


def rotations(degrees: Tensor) -> Tensor:
    """Return the linear maps (N, 2, 2) that turn a picture counter-clockwise by (N,) degrees."""
    angle = degrees.double().deg2rad()
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
