"""Weight-free graphs with weights for constants, without an ONNX library.

An engine that knows its weights when it is opened can lay them out for itself. Only the names of
the constants go into the graph, as *external* initializers: the values reach the engine beside it,
so that a model of 345 MB is not copied into one string of bytes first, and there is no limit of
2 GiB.

The part of protobuf that this takes is small: a message is a row of fields, each a key (number and
wire type) and a value. What need not be changed is copied as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from numpy.typing import NDArray

from runtime.errors import FormatError

# Of ONNX's messages: numbers of the fields that are read or written here.
_GRAPH = 7  # ModelProto
_INITIALIZER, _INPUT, _SPARSE = 5, 11, 15  # GraphProto
_INFO_NAME, _INFO_TYPE = 1, 2  # ValueInfoProto
_TENSOR_TYPE, _ELEMENT, _SHAPE, _DIM, _DIM_VALUE = 1, 1, 2, 1, 1  # TypeProto and below
_DIMS, _DATA_TYPE, _NAME, _EXTERNAL, _LOCATION = 1, 2, 8, 13, 14  # TensorProto
_KEY, _VALUE = 1, 2  # StringStringEntryProto
_ELEMENTS = {"float32": 1, "float16": 10}
_GIVEN = "given-at-opening"

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}


def bake(
    graph: bytes,
    arrays: Mapping[str, NDArray[Any]],
    places: Mapping[str, str] | None = None,
) -> bytes:
    """Return a graph whose inputs of these names are constants, by name of external data.

    Args:
        graph: An ONNX model, with an input for each array.
        arrays: float32 or float16, of the shapes of these inputs. Only types and shapes are read.
        places: Names of the files that hold the bytes, one for each array; None where whoever
            opens the graph gets the arrays themselves.

    Raises:
        FormatError: The graph is damaged, or an array has no input of its type and shape.
    """
    try:
        return _model(graph, arrays, places or dict.fromkeys(arrays, _GIVEN))
    except _Damage as error:
        raise FormatError(
            f"a graph is no sound ONNX model: {error}; export the bundle again"
        ) from error


class _Damage(ValueError):
    """The bytes are no message of the kind that is expected."""


def _model(content: bytes, arrays: Mapping[str, NDArray[Any]], places: Mapping[str, str]) -> bytes:
    model, graphs = bytearray(), 0
    for number, value, raw in _fields(memoryview(content)):
        if number == _GRAPH:
            graphs += 1
            model += _field(_GRAPH, _graph(_message(value), arrays, places))
        else:
            model += raw
    if graphs != 1:
        raise _Damage(f"it has {graphs} graphs, needed one")
    return bytes(model)


def _graph(
    content: memoryview, arrays: Mapping[str, NDArray[Any]], places: Mapping[str, str]
) -> bytes:
    graph, missing = bytearray(), dict(arrays)
    for number, value, raw in _fields(content):
        if number == _INPUT:
            info = _message(value)
            name = _text(info, _INFO_NAME)
            if name in arrays:
                if name not in missing:
                    raise _Damage(f"it has two inputs '{name}'")
                _check(name, info, missing.pop(name))
                continue
        elif number == _INITIALIZER and _text(_message(value), _NAME) in arrays:
            raise _Damage(f"its input '{_text(_message(value), _NAME)}' has a value already")
        elif number == _SPARSE:
            raise _Damage("it has sparse constants, which no export writes")
        graph += raw
    if missing:
        raise _Damage(f"it has no input '{min(missing)}'")
    for name, array in arrays.items():
        graph += _field(_INITIALIZER, _declared(name, array, places[name]))
    return bytes(graph)


def _check(name: str, info: memoryview, array: NDArray[Any]) -> None:
    """Check that an array is what an input asks for; axes without a number take any length."""
    tensor = _one(_one(info, _INFO_TYPE), _TENSOR_TYPE)
    element = next((value for number, value, _ in _fields(tensor) if number == _ELEMENT), 0)
    dims = [_message(v) for number, v, _ in _fields(_one(tensor, _SHAPE)) if number == _DIM]
    lengths = [next((v for n, v, _ in _fields(dim) if n == _DIM_VALUE), None) for dim in dims]
    same = len(lengths) == array.ndim and all(
        wanted is None or wanted == length
        for wanted, length in zip(lengths, array.shape, strict=False)
    )
    if not same or element != _ELEMENTS.get(array.dtype.name):
        raise _Damage(
            f"its input '{name}' has shape {lengths} and ONNX's type {element}, "
            f"found {array.dtype}{array.shape}"
        )


def _declared(name: str, array: NDArray[Any], place: str) -> bytes:
    """Return a TensorProto that says what an initializer is, and that its data is elsewhere."""
    location = _field(_KEY, b"location") + _field(_VALUE, place.encode())
    return b"".join(
        [
            *(_number(_DIMS, length) for length in array.shape),
            _number(_DATA_TYPE, _ELEMENTS[array.dtype.name]),
            _field(_NAME, name.encode()),
            _field(_EXTERNAL, location),
            _number(_LOCATION, 1),
        ]
    )


def _fields(content: memoryview) -> Iterator[tuple[int, int | memoryview, memoryview]]:
    """Yield number, value and raw bytes of each field of a message."""
    place = 0
    while place < len(content):
        start = place
        key, place = _varint(content, place)
        number, wire = key >> 3, key & 7
        value: int | memoryview
        if wire == _VARINT:
            value, place = _varint(content, place)
        else:
            if wire == _BYTES:
                size, place = _varint(content, place)
            elif wire in _FIXED:
                size = _FIXED[wire]
            else:
                raise _Damage(f"byte {start} has wire type {wire}")
            if size > len(content) - place:
                raise _Damage(f"a field of {size} bytes ends behind its message")
            value, place = content[place : place + size], place + size
        if not 0 < number < 1 << 29:
            raise _Damage(f"byte {start} has field number {number}")
        yield number, value, content[start:place]


def _varint(content: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(content):
            raise _Damage("it ends within a number")
        byte = content[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >= 1 << 64:
                break
            return value, place
    raise _Damage("it has a number of more than 64 bits")


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise _Damage("a number stands where a message was expected")
    return value


def _one(message: memoryview, number: int) -> memoryview:
    found = [value for n, value, _ in _fields(message) if n == number]
    if len(found) != 1:
        raise _Damage(f"it has {len(found)} fields {number}, needed one")
    return _message(found[0])


def _text(message: memoryview, number: int) -> str:
    try:
        return str(_one(message, number), "utf-8")
    except UnicodeDecodeError as error:
        raise _Damage("a name is not UTF-8") from error


def _encode(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _number(number: int, value: int) -> bytes:
    return _encode(number << 3 | _VARINT) + _encode(value)


def _field(number: int, content: bytes) -> bytes:
    return _encode(number << 3 | _BYTES) + _encode(len(content)) + content
