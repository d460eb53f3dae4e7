"""ONNX protobuf messages, limited to the fields that an export writes.

Each message has a table of the fields that it may have. Any other field is refused, by name if it
could do harm: data in other files, functions, graphs inside nodes. So is a second occurrence of a
field that may occur once: protobuf merges the two, and readers disagree about how.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from runtime.graphs.wire import BYTES, FIXED32, VARINT, Damage, fields, varint

MAX_NODES, MAX_INPUTS, MAX_CONSTANTS = 4096, 4096, 1024
MAX_RANK = 8
MAX_ELEMENTS = 64
"""Most elements of a constant; weights are larger, and are inputs."""
_FEW = 16
"""Most inputs, outputs or attributes of a node, or operator sets of a model."""
_MAX_NUMBER = (1 << 31) - 1


class Field(NamedTuple):
    """A field that a message may have."""

    name: str
    wire: int
    most: int = 1
    """Largest number of times that it may occur."""


Table = Mapping[int, Field]

MODEL: Table = {
    1: Field("ir_version", VARINT),
    2: Field("producer_name", BYTES),
    3: Field("producer_version", BYTES),
    6: Field("doc_string", BYTES),
    7: Field("graph", BYTES),
    8: Field("opset_import", BYTES, _FEW),
}
OPSET: Table = {1: Field("domain", BYTES), 2: Field("version", VARINT)}
GRAPH: Table = {
    1: Field("node", BYTES, MAX_NODES),
    2: Field("name", BYTES),
    5: Field("initializer", BYTES, MAX_CONSTANTS),
    10: Field("doc_string", BYTES),
    11: Field("input", BYTES, MAX_INPUTS),
    12: Field("output", BYTES, _FEW),
}
NODE: Table = {
    1: Field("input", BYTES, _FEW),
    2: Field("output", BYTES, _FEW),
    3: Field("name", BYTES),
    4: Field("op_type", BYTES),
    5: Field("attribute", BYTES, _FEW),
    6: Field("doc_string", BYTES),
    7: Field("domain", BYTES),
}
ATTRIBUTE: Table = {
    1: Field("name", BYTES),
    2: Field("f", FIXED32),
    3: Field("i", VARINT),
    4: Field("s", BYTES),
    8: Field("ints", VARINT, MAX_ELEMENTS),
    20: Field("type", VARINT),
}
TENSOR: Table = {
    1: Field("dims", VARINT, MAX_RANK),
    2: Field("data_type", VARINT),
    4: Field("float_data", FIXED32, MAX_ELEMENTS),
    7: Field("int64_data", VARINT, MAX_ELEMENTS),
    8: Field("name", BYTES),
    9: Field("raw_data", BYTES),
    12: Field("doc_string", BYTES),
}
INFO: Table = {1: Field("name", BYTES), 2: Field("type", BYTES), 3: Field("doc_string", BYTES)}
TYPE: Table = {1: Field("tensor_type", BYTES)}
TENSOR_TYPE: Table = {1: Field("elem_type", VARINT), 2: Field("shape", BYTES)}
SHAPE: Table = {1: Field("dim", BYTES, MAX_RANK)}
DIM: Table = {1: Field("dim_value", VARINT), 2: Field("dim_param", BYTES)}

_REFUSED: Mapping[tuple[str, int], str] = {
    ("model", 14): "metadata",
    ("model", 20): "training graphs",
    ("model", 25): "functions",
    ("graph", 13): "types of values in between",
    ("graph", 14): "quantisation",
    ("graph", 15): "sparse constants",
    ("node", 8): "an overloaded operator",
    ("attribute", 5): "a tensor",
    ("attribute", 6): "a graph (control flow)",
    ("attribute", 11): "graphs (control flow)",
    ("attribute", 21): "a reference to a function's attribute",
    ("attribute", 22): "a sparse tensor",
    ("constant", 3): "a segment of a tensor",
    ("constant", 13): "external data (bytes of another file)",
    ("constant", 14): "external data (bytes of another file)",
    ("type", 4): "a sequence",
    ("type", 5): "a map",
    ("type", 8): "a sparse tensor",
    ("type", 9): "an optional value",
}
"""Content of fields that some ONNX files have and ours do not, for messages."""


def shown(name: str) -> str:
    """Return a name of a file for a message: short, in quotes, without control characters."""
    return ascii(name if len(name) <= 60 else f"{name[:57]}...")


def parse(content: memoryview, table: Table, what: str) -> Mapping[str, Sequence[Any]]:
    """Return the values of a message's fields by their names, in order; an absent field has none.

    Args:
        content: Message to read.
        table: Allowed fields.
        what: Name of the message, for errors.

    Raises:
        Damage: The content is not such a message, or has another field.
    """
    found: defaultdict[str, list[Any]] = defaultdict(list)
    for number, wire, value, _ in fields(content):
        field = table.get(number)
        if field is None:
            refused = _REFUSED.get((what, number), f"field {number}")
            raise Damage(f"{_a(what)} has {refused}, which no export writes")
        values = found[field.name]
        if wire == field.wire:
            values.append(value)
        elif wire == BYTES and field.most > 1 and isinstance(value, memoryview):
            _unpack(value, field, values)  # numbers of a row may share one field
        else:
            raise Damage(
                f"'{field.name}' of {_a(what)} has wire type {wire}, expected {field.wire}"
            )
        if len(values) > field.most:
            raise Damage(f"{_a(what)} has more than {field.most} of '{field.name}'")
    return found


def _a(what: str) -> str:
    return f"an {what}" if what[0] in "aio" else f"a {what}"


def _unpack(content: memoryview, field: Field, values: list[Any]) -> None:
    offset = 0
    while offset < len(content) and len(values) <= field.most:
        if field.wire == VARINT:
            value, offset = varint(content, offset)
            values.append(value)
        elif len(content) - offset >= 4:
            values.append(content[offset : offset + 4])
            offset += 4
        else:
            raise Damage(f"'{field.name}' ends within a number")


def only(found: Mapping[str, Sequence[Any]], name: str, what: str) -> Any:
    """Return the value of a field that must be there."""
    if not found[name]:
        raise Damage(f"{_a(what)} has no '{name}'")
    return found[name][0]


def number_of(found: Mapping[str, Sequence[Any]], name: str, what: str) -> int:
    """Return the number in a field that must be there."""
    return small(only(found, name, what), name)


def small(value: int, name: str) -> int:
    """Return a number with its sign, if 32 bits hold it."""
    value -= (value >> 63) << 64
    if abs(value) > _MAX_NUMBER:
        raise Damage(f"'{name}' is {value}, at most {_MAX_NUMBER} is allowed")
    return value


def text_of(found: Mapping[str, Sequence[Any]], name: str, default: str | None = None) -> str:
    """Return the text in a field, or the default where there is one."""
    if not found[name] and default is not None:
        return default
    try:
        return str(only(found, name, "message"), "utf-8")
    except UnicodeDecodeError as error:
        raise Damage(f"'{name}' is not UTF-8") from error
