"""A reader of protobuf's wire format.

A message is a sequence of fields, each a key (number and wire type) and a value. This reader is
stricter than protobuf's own: it refuses whatever two of those could read differently, such as
groups and numbers that are longer than necessary.
"""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_FIXED = {FIXED64: 8, FIXED32: 4}


class Damage(ValueError):
    """The bytes are not a message of the expected kind."""


def fields(content: memoryview) -> Iterator[tuple[int, int, int | memoryview, slice]]:
    """Yield number, wire type, value and offset of each field of a message.

    Nothing is copied, and the time is linear in the length.

    Raises:
        Damage: The bytes are not a message.
    """
    offset, end = 0, len(content)
    while offset < end:
        start = offset
        # Nearly all keys and sizes are one byte: a call for each would take half of the time.
        key = content[offset]
        if key < 0x80:
            offset += 1
        else:
            key, offset = varint(content, offset)
        number, wire = key >> 3, key & 7
        value: int | memoryview
        if wire == VARINT:
            value, offset = varint(content, offset)
        else:
            if wire == BYTES:
                size = content[offset] if offset < end else 0x80
                if size < 0x80:
                    offset += 1
                else:
                    size, offset = varint(content, offset)
            elif wire in _FIXED:
                size = _FIXED[wire]
            else:
                raise Damage(f"byte {start} has wire type {wire}")
            if size > end - offset:
                raise Damage(f"a field of {size} bytes ends behind its message")
            value, offset = content[offset : offset + size], offset + size
        if not 0 < number < 1 << 29:
            raise Damage(f"byte {start} has field number {number}")
        yield number, wire, value, slice(start, offset)


def varint(content: memoryview, offset: int) -> tuple[int, int]:
    """Return the unsigned number of at most 64 bits at an offset, and the offset after it.

    Raises:
        Damage: The bytes are not a number in its shortest form.
    """
    value = 0
    for shift in range(0, 70, 7):
        if offset >= len(content):
            raise Damage("it ends within a number")
        byte = content[offset]
        offset += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 1 << 64:
                break
            if shift and not byte:
                raise Damage("it has a number that is longer than it need be")
            return value, offset
    raise Damage("it has a number of more than 64 bits")


def message(value: int | memoryview) -> memoryview:
    """Return the bytes of a field's value.

    Raises:
        Damage: The value is a number.
    """
    if isinstance(value, int):
        raise Damage("a number stands where a message was expected")
    return value
