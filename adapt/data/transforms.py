"""Crop, rotate and flip image batches at random, on any device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from adapt.data.transfer import constant, to_device
from adapt.data.warp import about_centre, rotations, warp
from runtime.errors import ConfigError
from runtime.models import Preprocess

MEAN: tuple[float, ...] = Preprocess(32).mean
STD: tuple[float, ...] = Preprocess(32).std
Interpolation = Literal["bilinear", "bicubic"]
_TRIES = 10
_ASPECT = 4 / 3


def normalise(images: Tensor, mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> Tensor:
    """Return images (B, S, S, 3) of bytes as (B, 3, S, S) float32, `(x / 255 - mean) / std`.

    The bytes may be uint8 or float32. The memory keeps the order of the pixels (channels last): a
    ModifiedResNet trains a fifth faster on a CPU that way.
    """
    shift = constant(tuple(mean), images.device).view(3, 1, 1)
    scale = constant(tuple(std), images.device).view(3, 1, 1)
    return images.permute(0, 3, 1, 2).to(torch.float32, copy=True).div_(255).sub_(shift).div_(scale)


def augment(
    images: Tensor,
    size: int,
    pad: int,
    flip: bool,
    generator: torch.Generator,
    mean: Sequence[float] = MEAN,
    std: Sequence[float] = STD,
    *,
    crop_min: float = 0.0,
    crop_max: float = 1.0,
    rotate: float = 0.0,
    interpolation: Interpolation = "bilinear",
) -> Tensor:
    """Return a random crop of each image, half of them mirrored if wanted, normalised.

    Every image gets its own draw. The draws are made on the CPU, so that a run on a GPU sees the
    same crops as one on a CPU.

    Args:
        images: Images (B, R, R, 3) uint8.
        size: Side S of the crop, at most R + 2 pad unless crops are resized.
        pad: Number of border pixels added on each side before cropping, by repetition.
        flip: Whether to mirror an image with probability 1/2.
        generator: Generator on the CPU; advanced in place.
        mean: Mean of RGB in [0, 1].
        std: Standard deviation of RGB.
        crop_min: Least share of the area to cut out, with an aspect ratio in 3/4..4/3, and to
            resize to S x S, see `windows`; 0 cuts S x S pixels out.
        crop_max: Largest share; above 1 makes whole images more frequent.
        rotate: Largest angle in degrees by which a crop is turned either way; corners are black.
        interpolation: Interpolation of a resized crop, antialiased; rotation is bilinear.

    Returns:
        (B, 3, S, S) float32 on the device of the images.

    Raises:
        ConfigError: The crop is larger than the padded image; `pad` and `crop_min` are both set.
    """
    count, side = images.shape[0], images.shape[1]
    if crop_min > 0:
        if pad:
            raise ConfigError(
                f"pad is {pad}, but crops of a random area (crop_min={crop_min:g}) are not padded; "
                "set pad=0, or crop_min=0"
            )
        boxes = windows(count, side, crop_min, crop_max, generator)
        cut = _resized(images, boxes, size, interpolation)
        if flip:
            mirrored = torch.rand(count, generator=generator) < 0.5
            cut = torch.where(to_device(mirrored.view(-1, 1, 1, 1), cut.device), cut.flip(2), cut)
    else:
        cut = _crop(images, size, pad, flip, generator)
    if rotate > 0:
        degrees = (torch.rand(count, generator=generator, dtype=torch.float64) * 2 - 1) * rotate
        maps = about_centre(rotations(degrees), size)
        cut = warp(cut.permute(0, 3, 1, 2), maps, (0, 0, 0)).permute(0, 2, 3, 1)
    return normalise(cut, mean, std)


def windows(
    count: int, side: int, area_min: float, area_max: float, generator: torch.Generator
) -> Tensor:
    """Return random windows (count, 4) int64: top, left, height, width, of square images.

    As torchvision's RandomResizedCrop draws them: the share of the area and the logarithm of
    the aspect ratio, within 3/4..4/3, are uniform; the first of ten draws that fits into the
    image counts, and if none does the window is the whole image. A share above 1 (digits:
    0.75..1.2) never fits.

    Args:
        count: Number of windows.
        side: Side of the images in pixels.
        area_min: Least share of the image's area.
        area_max: Largest share of the image's area.
        generator: Generator on the CPU; advanced in place.
    """
    draws = torch.rand(count, _TRIES, 2, generator=generator, dtype=torch.float64)
    corners = torch.rand(count, 2, generator=generator, dtype=torch.float64)
    area = side**2 * (area_min + (area_max - area_min) * draws[..., 0])
    aspect = _ASPECT ** (2 * draws[..., 1] - 1)
    sides = torch.stack([(area / aspect).sqrt(), (area * aspect).sqrt()], -1).round()
    fits = ((sides > 0) & (sides <= side)).all(-1)  # (count, tries)
    first = fits.int().argmax(1)
    chosen = torch.where(fits.any(1)[:, None], sides[torch.arange(count), first], float(side))
    corner = (corners * (side - chosen + 1)).floor()
    return torch.cat([corner, chosen], 1).long()


def centre_crop(images: Tensor, size: int) -> Tensor:
    """Return the middle (B, S, S, 3) of images (B, R, R, 3); beyond the border it is repeated."""
    side = images.shape[1]
    first = round((side - size) / 2)
    window = (torch.arange(size, device=images.device) + first).clamp(0, side - 1)
    return images if size == side else images[:, window[:, None], window]


def _crop(images: Tensor, size: int, pad: int, flip: bool, generator: torch.Generator) -> Tensor:
    count, side = images.shape[0], images.shape[1]
    room = side + 2 * pad - size
    if room < 0:
        raise ConfigError(
            f"a crop of {size} pixels does not fit into training images of {side} with pad {pad}; "
            f"set train_size to {size} or more"
        )
    offsets = torch.randint(0, room + 1, (count, 2), generator=generator)
    window = torch.arange(size)
    # Repeating the border is reading it again: indices are clamped, nothing is copied to pad.
    rows = (offsets[:, :1] + window - pad).clamp(0, side - 1)
    columns = (offsets[:, 1:] + window - pad).clamp(0, side - 1)
    if flip:
        mirrored = torch.rand(count, generator=generator) < 0.5
        columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    rows, columns = to_device(rows, images.device), to_device(columns, images.device)
    which = torch.arange(count, device=images.device)[:, None, None]
    return images[which, rows[:, :, None], columns[:, None, :]]


def _resized(images: Tensor, boxes: Tensor, size: int, interpolation: Interpolation) -> Tensor:
    # One image after the other: on a CPU torchvision's byte kernels beat a batched product with
    # resampling matrices eight times at 224 pixels (10 against 80 ms for 32 images).
    mode = functional.InterpolationMode(interpolation)
    planes = images.permute(0, 3, 1, 2)
    cut = [
        functional.resized_crop(image, *box, [size, size], interpolation=mode, antialias=True)
        for image, box in zip(planes, boxes.tolist(), strict=True)
    ]
    return torch.stack(cut).permute(0, 2, 3, 1)
