"""Change the colours of image batches, one strength per image, on any device.

Every function takes images (N, 3, S, S) uint8 RGB and a strength (N,), and returns fresh uint8
images. They follow Pillow, which cuts to a whole byte after each change; a byte may come out
different by one, where torchvision or float32 rounds another way.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad
from torchvision.transforms.v2 import functional

from adapt.data.transfer import constant, to_device


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Mix with black: 0 is black, 1 the image, 2 twice as bright."""
    return (images * _each(factor, images)).clamp_(0, 255).to(torch.uint8)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Mix with the mean grey of each image: 0 is that grey, 1 the image."""
    grey = functional.rgb_to_grayscale(images).float()
    return _mix(images, grey.mean((1, 2, 3), keepdim=True), factor)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Mix with the grey image: 0 is grey, 1 the image."""
    return _mix(images, functional.rgb_to_grayscale(images), factor)


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Mix with a smoothed image, except at the border: 0 is smooth, 1 the image."""
    return _mix(images, functional.adjust_sharpness(images, 0.0), factor)


def hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue by a share of the colour circle, in [-0.5, 0.5]."""
    red, green, blue = images.float().unbind(1)
    value = images.amax(1).float()
    chroma = value - images.amin(1)
    divisor = chroma.clamp_min(1)  # of a grey pixel, whose hue does not show
    sixth = torch.where(value == green, (blue - red) / divisor + 2, (red - green) / divisor + 4)
    sixth = torch.where(value == red, (green - blue) / divisor, sixth)[:, None]
    channel = constant((5.0, 3.0, 1.0), images.device).view(3, 1, 1)
    k = (channel + sixth + 6 * _each(shift, images)) % 6
    share = torch.minimum(k, 4 - k).clamp_(0, 1)
    return (value[:, None] - chroma[:, None] * share).round_().to(torch.uint8)


def autocontrast(images: Tensor, strength: Tensor) -> Tensor:
    """Stretch each channel to 0..255, whatever the strength."""
    stretched: Tensor = functional.autocontrast(images)
    return stretched


def equalize(images: Tensor, strength: Tensor) -> Tensor:
    """Make each channel's histogram flat, whatever the strength."""
    flat: Tensor = functional.equalize(images)
    return flat


def invert(images: Tensor, strength: Tensor) -> Tensor:
    """Return the negative, whatever the strength."""
    return 255 - images


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep the highest bits of each byte: 0 is black, 8 the image."""
    return images & (256 - 2.0 ** (8 - _each(bits, images))).to(torch.uint8)


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Invert the bytes from the threshold on: 0 inverts all, 256 none."""
    return torch.where(images < _each(threshold, images), images, 255 - images)


def solarize_add(images: Tensor, add: Tensor) -> Tensor:
    """Add to the bytes below 128."""
    more = (images + _each(add, images)).clamp_(max=255).to(torch.uint8)
    return torch.where(images < 128, more, images)


def blur(images: Tensor, sigma: Tensor, reach: int) -> Tensor:
    """Smooth with a Gaussian of `sigma` pixels, cut at `reach` pixels; the border is mirrored."""
    count, channels, height, width = images.shape
    offsets = torch.arange(-reach, reach + 1, device=images.device)
    kernel = torch.exp(-0.5 * (offsets / _each(sigma, images)[..., 0]) ** 2)  # (N, 1, K)
    kernel = (kernel / kernel.sum(-1, keepdim=True)).repeat_interleave(channels, 0)
    # Every channel of every image is a group of its own, with its own kernel.
    planes = pad(images.float(), (reach,) * 4, mode="reflect").flatten(0, 1)[None]
    planes = conv2d(planes, kernel[:, :, None], groups=len(kernel))
    planes = conv2d(planes, kernel[:, :, :, None], groups=len(kernel))
    return planes.view(count, channels, height, width).round_().to(torch.uint8)


def _each(strength: Tensor, images: Tensor) -> Tensor:
    return to_device(strength.float(), images.device).view(-1, 1, 1, 1)


def _mix(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """Return `other + factor * (images - other)` as bytes."""
    difference = images.float().sub_(other)
    return difference.mul_(_each(factor, images)).add_(other).clamp_(0, 255).to(torch.uint8)
