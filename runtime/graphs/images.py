"""Shape inference for operators over images (N, C, H, W)."""

from __future__ import annotations

from runtime.graphs.calls import Call, Made
from runtime.graphs.lengths import Length, described, product
from runtime.graphs.wire import Damage

_BLOCK, _COLOURS = 16, Length(3)
_MAX_WINDOW = 64
"""Pixels; a library may lay out every window of an image at once."""


def _windows(call: Call, kernel: list[int]) -> tuple[Length, Length]:
    """Return the number of windows of pixels, down and across."""
    strides, pads = call.row("strides", [1, 1]), call.row("pads", [0] * 4)
    made = []
    for axis, pixels in enumerate(call.rank(0, 4)[2:]):
        size, stride = kernel[axis], strides[axis]
        room = pixels.factor + pads[axis] + pads[axis + 2] - size
        if (
            not pixels.fixed
            or not 0 < size <= _MAX_WINDOW
            or stride < 1
            or room < 0
            or max(pads) >= size
        ):
            raise Damage(f"windows of {size} pixels, {stride} apart, do not fit {pixels} pixels")
        made.append(Length(room // stride + 1))
    return made[0], made[1]


def conv(call: Call) -> Made:
    """Filters (O, I, H, W) over images; a bias and a sum are optional."""
    image, filters = call.rank(0, 4), call.rank(1, 4)
    kernel = [side.factor for side in filters[2:]]
    if image[1] != filters[1] or not all(side.fixed for side in filters):
        raise Damage(f"filters {described(filters)} do not fit images {described(image)}")
    if call.row("kernel_shape", kernel) != kernel:
        raise Damage(f"filters {described(filters)} are not of 'kernel_shape'")
    if call.node.attributes.get("activation", "Relu") != "Relu":
        raise Damage("attribute 'activation' must be 'Relu'")
    if len(call.shapes) > 2 and call.shapes[2] != filters[:1]:
        raise Damage(
            f"a bias {described(call.shapes[2])} does not fit filters {described(filters)}"
        )
    shape = (image[0], filters[0], *_windows(call, kernel))
    if len(call.shapes) == 4 and call.shapes[3] != shape:
        raise Damage(f"{described(call.shapes[3])} is added to {described(shape)}")
    return Made(shape, product((*shape, *filters[1:])).most)


def blocked_conv(call: Call) -> Made:
    """The same over blocks of channels, as only a library that trusts its caller reads them."""
    _check_blocks(call.rank(1, 4)[0])
    if call.rank(0, 4)[1] != _COLOURS:
        _check_blocks(call.rank(0, 4)[1])
    return conv(call)


def blocked_pool(call: Call) -> Made:
    """The mean of windows over blocks of channels."""
    _check_blocks(call.rank(0, 4)[1])
    return pool(call)


def _check_blocks(channels: Length) -> None:
    if not channels.fixed or channels.factor % _BLOCK:
        raise Damage(f"{channels} channels do not fill blocks of {_BLOCK}")


def pool(call: Call) -> Made:
    """The mean of windows."""
    image, kernel = call.rank(0, 4), call.row("kernel_shape", [0, 0])
    shape = (*image[:2], *_windows(call, kernel))
    return Made(shape, product(shape).most * kernel[0] * kernel[1])


def reorder(call: Call) -> Made:
    """Blocks of channels as (N, H, W, C)."""
    image = call.rank(0, 4)
    _check_blocks(image[1])
    if image[1] != Length(call.whole("channels", 0)) or call.whole("channels_last", 0) != 1:
        raise Damage("attribute 'channels' must be those of the value, 'channels_last' 1")
    return Made((image[0], *image[2:], image[1]))
