"""Shape inference for all operators except those over images."""

from __future__ import annotations

from runtime.graphs.calls import Call, Made
from runtime.graphs.lengths import ONE, Length, Shape, described, divided, product
from runtime.graphs.messages import MAX_RANK
from runtime.graphs.model import FLOAT, HALF
from runtime.graphs.wire import Damage


def same(call: Call) -> Made:
    """The shape of the first input."""
    return Made(call.shapes[0])


def cast(call: Call) -> Made:
    """The same shape in another type."""
    if call.whole("to", 0) not in (FLOAT, HALF):
        raise Damage(
            f"Cast to ONNX's type {call.whole('to', 0)}, only float32 and float16 are allowed"
        )
    return same(call)


def along(call: Call) -> Made:
    """The same shape; one axis is named."""
    call.axis(call.whole("axis", -1), len(call.shapes[0]))
    return same(call)


def batch_norm(call: Call) -> Made:
    """The same shape, with four numbers per channel."""
    return _normed(call, call.shapes[0][1:2])


def layer_norm(call: Call) -> Made:
    """The same shape, with a scale and a shift over the last axes."""
    shape = call.shapes[0]
    return _normed(call, shape[call.axis(call.whole("axis", -1), len(shape)) :])


def _normed(call: Call, wanted: Shape) -> Made:
    # A library might read as far as it expects without looking at the length.
    if not wanted or {*call.shapes[1:]} != {wanted}:
        found = " and ".join(map(described, call.shapes))
        raise Damage(f"shapes {found} do not fit each other")
    return same(call)


def _broadcast(*shapes: Shape) -> Shape:
    rank = max(map(len, shapes))
    made = []
    for lengths in zip(*((ONE,) * (rank - len(shape)) + shape for shape in shapes), strict=True):
        others = {each for each in lengths if each != ONE}
        if len(others) > 1:
            raise Damage(f"shapes {' and '.join(map(described, shapes))} do not fit each other")
        made.append(others.pop() if others else ONE)
    return tuple(made)


def together(call: Call) -> Made:
    """Element by element, with broadcasting."""
    return Made(_broadcast(*call.shapes))


def _times(call: Call, left: Shape, right: Shape, shape: Shape) -> Made:
    if left[-1] != right[-2]:
        raise Damage(f"matrices {described(left)} and {described(right)} do not fit each other")
    return Made(shape, product((*shape, left[-1])).most)


def matmul(call: Call) -> Made:
    """A product of stacks of matrices."""
    left, right = (call.rank(i, *range(2, MAX_RANK + 1)) for i in (0, 1))
    return _times(call, left, right, (*_broadcast(left[:-2], right[:-2]), left[-2], right[-1]))


def gemm(call: Call) -> Made:
    """A product of two matrices; a bias is optional."""
    left, right = call.rank(0, 2), call.rank(1, 2)
    if call.whole("transB", 0):
        right = right[::-1]
    shape = (left[0], right[1])
    if len(call.shapes) == 3 and _broadcast(shape, call.shapes[2]) != shape:
        raise Damage(f"a bias {described(call.shapes[2])} does not fit {described(shape)}")
    return _times(call, left, right, shape)


def transpose(call: Call) -> Made:
    """The axes in another order."""
    shape = call.shapes[0]
    perm = call.row("perm", list(range(len(shape)))[::-1]) if shape else []
    if sorted(perm) != list(range(len(shape))):
        raise Damage(f"attribute 'perm' must be an order of {len(shape)} axes, found {perm}")
    return Made(tuple(shape[axis] for axis in perm))


def reshape(call: Call) -> Made:
    """Another shape of as many elements; 0 keeps a length, -1 infers one."""
    old, wanted = call.shapes[0], call.constant(1)
    made: list[Length | None] = []
    for axis, value in enumerate(wanted):
        if value < -1 or (value == 0 and axis >= len(old)):
            raise Damage(f"{described(old)} cannot have the shape {wanted}")
        made.append(None if value == -1 else old[axis] if value == 0 else Length(value))
    rest = divided(product(old), product(each for each in made if each is not None))
    if rest is None or made.count(None) > 1 or (None not in made and rest != ONE):
        raise Damage(f"{described(old)} cannot have the shape {wanted}")
    return Made(tuple(rest if each is None else each for each in made))


def pad(call: Call) -> Made:
    """Zeros before and after."""
    shape, pads = call.shapes[0], call.constant(1)
    if len(pads) != 2 * len(shape) or min(pads, default=0) < 0:
        raise Damage(f"{described(shape)} cannot be padded by {pads}")
    more = [pads[axis] + pads[axis + len(shape)] for axis in range(len(shape))]
    if any(count and not own.fixed for own, count in zip(shape, more, strict=True)):
        raise Damage(f"{described(shape)} is padded along a free axis")
    return Made(
        tuple(own._replace(factor=own.factor + n) for own, n in zip(shape, more, strict=True))
    )


def concat(call: Call) -> Made:
    """Values joined along an axis."""
    first = call.shapes[0]
    axis = call.axis(call.whole("axis", 0), len(first))
    rests = {(*shape[:axis], *shape[axis + 1 :]) for shape in call.shapes}
    same = len(rests) == 1 and {len(shape) for shape in call.shapes} == {len(first)}
    if not same or not all(shape[axis].fixed for shape in call.shapes):
        raise Damage(f"shapes {' and '.join(map(described, call.shapes))} cannot be joined")
    joined = Length(sum(shape[axis].factor for shape in call.shapes))
    return Made((*first[:axis], joined, *first[axis + 1 :]))


def slice(call: Call) -> Made:
    """Part of some axes."""
    shape = list(call.shapes[0])
    starts, ends, axes = (call.constant(index) for index in (1, 2, 3))
    if not len(starts) == len(ends) == len(axes) or len({*axes}) != len(axes):
        raise Damage("a slice must have a start and an end for each of its axes")
    for start, end, each in zip(starts, ends, axes, strict=True):
        axis = call.axis(each, len(shape))
        if not shape[axis].fixed or not 0 <= start < end <= shape[axis].factor:
            raise Damage(f"a slice from {start} to {end} of an axis of length {shape[axis]}")
        shape[axis] = Length(end - start)
    return Made(tuple(shape))


def gather(call: Call) -> Made:
    """One entry of an axis, which goes away."""
    shape, index = call.shapes[0], call.constant(1)
    axis = call.axis(call.whole("axis", 0), len(shape))
    if call.shapes[1] or not shape[axis].fixed or not 0 <= index[0] < shape[axis].factor:
        raise Damage(f"entry {index} of an axis of length {shape[axis]} is gathered; expected one")
    return Made((*shape[:axis], *shape[axis + 1 :]))


def reduce(call: Call) -> Made:
    """One value for all entries of some axes."""
    shape = call.shapes[0]
    axes = {call.axis(axis, len(shape)) for axis in call.constant(1)}
    kept = bool(call.whole("keepdims", 1))
    made = [
        ONE if axis in axes else own for axis, own in enumerate(shape) if kept or axis not in axes
    ]
    return Made(tuple(made), product(shape).most)
