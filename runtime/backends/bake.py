"""Turn a graph's weight inputs into constants, without an ONNX library.

An engine that knows its weights when it is opened can lay them out for itself. Only the names of
the constants go into the graph, as *external* initializers: the values reach the engine beside it,
so that a model of 345 MB is not copied into one string of bytes first, and there is no limit of
2 GiB.

The rest of the graph is copied unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from runtime.errors import FormatError
from runtime.graphs.wire import BYTES, VARINT, Damage, fields, message

# Field numbers of ONNX's messages that are read or written here.
_GRAPH = 7  # ModelProto
_INITIALIZER, _INPUT, _SPARSE = 5, 11, 15  # GraphProto
_INFO_NAME, _INFO_TYPE = 1, 2  # ValueInfoProto
_TENSOR_TYPE, _ELEMENT, _SHAPE, _DIM, _DIM_VALUE = 1, 1, 2, 1, 1  # TypeProto and below
_DIMS, _DATA_TYPE, _NAME, _EXTERNAL, _LOCATION = 1, 2, 8, 13, 14  # TensorProto
_KEY, _VALUE = 1, 2  # StringStringEntryProto
_ELEMENTS = {"float32": 1, "float16": 10}
_GIVEN = "given-at-opening"


def bake(
    graph: bytes,
    arrays: Mapping[str, NDArray[Any]],
    files: Mapping[str, str] | None = None,
) -> bytes:
    """Return a graph whose inputs of these names are constants, by name of external data.

    No value is written: each constant is an external initializer of ONNX, and whoever opens the
    graph resolves it. ONNX Runtime is handed the arrays beside the graph and matches them by name,
    whatever the file name says; TensorRT's parser reads the file of that name, with the bytes of
    one array in row-major order, from the folder that it is given.

    Args:
        graph: An ONNX model, with an input for each array.
        arrays: float32 or float16, of the shapes of these inputs. Only types and shapes are read.
        files: Names of the files that hold the bytes, one for each array; None where a backend
            gives the library the arrays themselves, and no such file is ever looked for.

    Raises:
        FormatError: The graph is damaged, or an array has no input of its type and shape.
    """
    try:
        return _model(graph, arrays, files or dict.fromkeys(arrays, _GIVEN))
    except Damage as error:
        raise FormatError(
            f"a graph is not a sound ONNX model: {error}; export the bundle again"
        ) from error


def _model(content: bytes, arrays: Mapping[str, NDArray[Any]], files: Mapping[str, str]) -> bytes:
    model, graphs = bytearray(), 0
    for number, _, value, span in fields(memoryview(content)):
        if number == _GRAPH:
            graphs += 1
            model += _field(_GRAPH, _graph(message(value), arrays, files))
        else:
            model += content[span]
    if graphs != 1:
        raise Damage(f"it has {graphs} graphs, expected one")
    return bytes(model)


def _graph(
    content: memoryview, arrays: Mapping[str, NDArray[Any]], files: Mapping[str, str]
) -> bytes:
    graph, missing = bytearray(), dict(arrays)
    for number, _, value, span in fields(content):
        if number == _INPUT:
            info = message(value)
            name = _text(info, _INFO_NAME)
            if name in arrays:
                if name not in missing:
                    raise Damage(f"it has two inputs '{name}'")
                _check(name, info, missing.pop(name))
                continue
        elif number == _INITIALIZER and _text(message(value), _NAME) in arrays:
            raise Damage(f"its input '{_text(message(value), _NAME)}' has a value already")
        elif number == _SPARSE:
            raise Damage("it has sparse constants, which no export writes")
        graph += content[span]
    if missing:
        raise Damage(f"it has no input '{min(missing)}'")
    for name, array in arrays.items():
        graph += _field(_INITIALIZER, _declared(name, array, files[name]))
    return bytes(graph)


def _check(name: str, info: memoryview, array: NDArray[Any]) -> None:
    """Check that an array is what an input asks for; axes without a number take any length."""
    tensor = _one(_one(info, _INFO_TYPE), _TENSOR_TYPE)
    element = next((value for number, _, value, _ in fields(tensor) if number == _ELEMENT), 0)
    dims = [message(v) for number, _, v, _ in fields(_one(tensor, _SHAPE)) if number == _DIM]
    lengths = [next((v for n, _, v, _ in fields(dim) if n == _DIM_VALUE), None) for dim in dims]
    same = len(lengths) == array.ndim and all(
        wanted is None or wanted == length
        for wanted, length in zip(lengths, array.shape, strict=False)
    )
    if not same or element != _ELEMENTS.get(array.dtype.name):
        raise Damage(
            f"its input '{name}' has shape {lengths} and ONNX's type {element}, "
            f"found {array.dtype}{array.shape}"
        )


def _declared(name: str, array: NDArray[Any], file: str) -> bytes:
    """Return a TensorProto that says what an initializer is, and that its data is elsewhere."""
    location = _field(_KEY, b"location") + _field(_VALUE, file.encode())
    return b"".join(
        [
            *(_number(_DIMS, length) for length in array.shape),
            _number(_DATA_TYPE, _ELEMENTS[array.dtype.name]),
            _field(_NAME, name.encode()),
            _field(_EXTERNAL, location),
            _number(_LOCATION, 1),
        ]
    )


def _one(content: memoryview, number: int) -> memoryview:
    found = [value for n, _, value, _ in fields(content) if n == number]
    if len(found) != 1:
        raise Damage(f"it has {len(found)} fields {number}, expected one")
    return message(found[0])


def _text(content: memoryview, number: int) -> str:
    try:
        return str(_one(content, number), "utf-8")
    except UnicodeDecodeError as error:
        raise Damage("a name is not UTF-8") from error


def _encode(value: int) -> bytes:
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _number(number: int, value: int) -> bytes:
    return _encode(number << 3 | VARINT) + _encode(value)


def _field(number: int, content: bytes) -> bytes:
    return _encode(number << 3 | BYTES) + _encode(len(content)) + content
