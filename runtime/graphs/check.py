"""Check ONNX graphs before any library opens them.

A graph is a program by the author of the bundle, and a library that opens it runs it: it may read
other files, loop forever or take all memory. So the bytes of a graph are read and checked here
before ONNX Runtime or TensorRT sees them, and before weights become constants of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from numpy.typing import NDArray

from runtime.errors import FormatError
from runtime.graphs.calls import Call
from runtime.graphs.lengths import BATCH, CLASSES, Length, Shape, described, length, product
from runtime.graphs.messages import MAX_RANK, shown
from runtime.graphs.model import FLOAT, HALF, TYPES, UINT8, Model, Value, read
from runtime.graphs.operators import BLOCKED, make
from runtime.graphs.wire import Damage

Kind = Literal["encoder", "head"]

MAX_BYTES = 1 << 20
"""Largest file of a graph; ViT-B/16's has 47 kB."""
OPSETS = range(18, 22)
_IR_VERSIONS = range(8, 11)
MAX_LIVE = 1 << 26
"""Most elements alive at one time for one frame: 256 MiB as float32."""
MAX_TOTAL = 1 << 32
"""Most elements of all values for one frame."""
MAX_PRODUCTS = 1 << 41
"""Most multiplications for one frame; ViT-bigG/14 needs a fifth."""
_ENDS: Mapping[str, tuple[str, int, str, tuple[str | None, ...]]] = {
    "encoder": ("pixels", UINT8, "features", (BATCH, None)),
    "head": ("features", FLOAT, "logits", (BATCH, CLASSES)),
}
"""Inputs of a graph from outside the bundle, and its output."""


def check_size(size: int, where: str) -> None:
    """Check the number of bytes that a graph has.

    Raises:
        FormatError: It is larger than any that an export writes.
    """
    if size > MAX_BYTES:
        raise _refusal(where, f"it has {size} bytes, at most {MAX_BYTES} are allowed")


def check_graph(content: bytes, kind: Kind, where: str) -> None:
    """Check that a graph holds nothing but what an export may write.

    Args:
        content: Content of the graph's file.
        kind: Role of the graph in its bundle.
        where: Name of the graph, for messages.

    Raises:
        FormatError: The graph holds something else, or is damaged; the message says what was found
            and what is allowed.
    """
    shapes_of(content, kind, where)


def shapes_of(content: bytes, kind: Kind, where: str) -> dict[str, Shape]:
    """Return the shape of every value of a graph that passes `check_graph`, by its name.

    Raises:
        FormatError: The graph does not pass.
    """
    check_size(len(content), where)
    try:
        model = read(content)
        _check_versions(model)
        return _shapes(model, _inputs(model, kind), _output(model, kind))
    except Damage as error:
        raise _refusal(where, str(error)) from error


def _refusal(where: str, problem: str) -> FormatError:
    return FormatError(
        f"'{where}' is not a graph that may be opened: {problem}; export the bundle again, or get "
        "it from someone you trust"
    )


def _check_versions(model: Model) -> None:
    if model.ir_version not in _IR_VERSIONS:
        raise Damage(f"it has IR version {model.ir_version}, allowed: {_span(_IR_VERSIONS)}")
    for domain, version in model.opsets.items():
        if domain not in ("", BLOCKED):
            raise Damage(f"it uses operators of {shown(domain)}; allowed: ONNX's and {BLOCKED}")
        if version not in (OPSETS if not domain else (1,)):
            allowed = "1" if domain else _span(OPSETS)
            raise Damage(f"it has opset {version} of {shown(domain)}, allowed: {allowed}")
    if "" not in model.opsets:
        raise Damage("it does not say which opset of ONNX it uses")


def _inputs(model: Model, kind: Kind) -> dict[str, Shape]:
    """Return the shapes of the inputs, after checking their types and free axes."""
    source, element, _, _ = _ENDS[kind]
    found: dict[str, Shape] = {}
    for value in model.inputs:
        if value.name in found or not value.name:
            raise Damage(f"it has two inputs {shown(value.name)}, or one without a name")
        first = value.name == source
        if value.element not in ((element,) if first else (FLOAT, HALF)):
            wanted = TYPES[element] if first else "float32 or float16"
            raise Damage(
                f"its input {shown(value.name)} has ONNX's type {value.element}, expected {wanted}"
            )
        free = {axis: name for axis, name in enumerate(value.shape) if isinstance(name, str)}
        allowed = {0: BATCH} if first else {0: CLASSES} if kind == "head" and free else {}
        if free != allowed:
            raise Damage(
                f"its input {shown(value.name)} has free axes {_free(free)}, expected "
                f"{_free(allowed)}"
            )
        found[value.name] = tuple(map(length, value.shape))
    if source not in found:
        raise Damage(f"it has no input '{source}'")
    return found


def _output(model: Model, kind: Kind) -> Value:
    """Return the output, after checking all that does not depend on what is computed."""
    _, _, name, axes = _ENDS[kind]
    if len(model.outputs) != 1 or model.outputs[0].name != name:
        found = ", ".join(shown(value.name) for value in model.outputs) or "none"
        raise Damage(f"it has the outputs {found}, expected '{name}' alone")
    value = model.outputs[0]
    if value.element != FLOAT:
        raise Damage(f"its output '{name}' has ONNX's type {value.element}, expected float32")
    free = tuple(each if isinstance(each, str) else None for each in value.shape)
    if free != axes:
        raise Damage(f"its output '{name}' must have 2 axes, the free ones called {_free(axes)}")
    return value


def _shapes(model: Model, inputs: Mapping[str, Shape], output: Value) -> dict[str, Shape]:
    """Work out the shape of every value, and check that all of them are small enough."""
    shapes: dict[str, Shape] = dict(inputs)
    constants: dict[str, NDArray[Any]] = dict(model.constants)
    for name, array in constants.items():
        if name in shapes:
            raise Damage(f"its input {shown(name)} has a value already")
        shapes[name] = tuple(map(length, array.shape))
    last = {name: index for index, node in enumerate(model.nodes) for name in node.inputs}
    sizes: dict[str, int] = {}
    live = total = products = 0
    for index, node in enumerate(model.nodes):
        missing = next((name for name in node.inputs if name not in shapes), None)
        if missing is not None:
            raise Damage(f"operator {shown(node.kind)} reads {shown(missing)}, which is not there")
        if len(node.outputs) != 1 or not node.outputs[0] or node.outputs[0] in shapes:
            raise Damage(f"operator {shown(node.kind)} must make one value that is not there yet")
        if node.domain not in model.opsets:
            raise Damage(f"it does not say which opset of {shown(node.domain)} it uses")
        call = Call(
            node, [shapes[name] for name in node.inputs], [constants.get(n) for n in node.inputs]
        )
        made, name = make(call), node.outputs[0]
        size = _size(made.shape, node.kind)
        shapes[name], sizes[name] = made.shape, size
        live, total, products = live + size, total + size, products + max(made.products, size)
        if live > MAX_LIVE or total > MAX_TOTAL or products > MAX_PRODUCTS:
            raise Damage(
                f"at operator {node.kind} ({described(made.shape)}) a frame takes {live} values at "
                f"a time, {total} in all and {products} multiplications; at most {MAX_LIVE}, "
                f"{MAX_TOTAL} and {MAX_PRODUCTS} are allowed"
            )
        for read_here in {name, *node.inputs}:
            if last.get(read_here, -1) <= index and read_here != output.name:
                live -= sizes.pop(read_here, 0)
    wanted = tuple(map(length, output.shape))
    if shapes.get(output.name) != wanted or output.name in inputs or output.name in constants:
        found = described(shapes[output.name]) if output.name in shapes else "nothing"
        raise Damage(f"its output '{output.name}' should be {described(wanted)}, found {found}")
    return shapes


def _size(shape: Shape, kind: str) -> int:
    """Return the elements of a value for one frame and the most classes."""
    size: Length = product(shape)
    if len(shape) > MAX_RANK:
        raise Damage(f"operator {kind} makes {len(shape)} axes, at most {MAX_RANK} are allowed")
    if not size.linear:
        raise Damage(
            f"operator {kind} makes {described(shape)}, which grows faster than the batch or the "
            "classes"
        )
    return size.most


def _span(allowed: range) -> str:
    return f"{allowed.start} to {allowed.stop - 1}"


def _free(axes: Mapping[int, str] | tuple[str | None, ...]) -> str:
    names = axes.values() if isinstance(axes, Mapping) else [name for name in axes if name]
    return ", ".join(shown(name) for name in names) or "none"
