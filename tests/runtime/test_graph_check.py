"""A graph is a program: only one that an export could have written reaches a library."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import runtime
from runtime.backends.trt.graphs import baked_graphs, graphs_of
from runtime.bundles import bundle
from runtime.bundles.bundle import Bundle
from runtime.bundles.graphs import HeadGraph
from runtime.errors import FormatError
from runtime.graphs.check import MAX_BYTES, check_graph
from runtime.storage.files import sha256
from tests.runtime.conftest import DIM, SIZE, encoder_graph, head_graph

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
info, node = helper.make_tensor_value_info, helper.make_node
GEMM = node("Gemm", ["features", "weight"], ["z"], transB=1)


def constant(name, *values):
    return numpy_helper.from_array(np.array(values, np.int64), name)


def build(nodes, constants=(), inputs=(), outputs=None, opsets=(("", 18),), **graph):
    """A head of these nodes, over `features` and `weight`."""
    made = helper.make_graph(
        nodes,
        "g",
        [info("features", FLOAT, ["batch", DIM]), info("weight", FLOAT, ["classes", DIM]), *inputs],
        outputs if outputs is not None else [info("logits", FLOAT, ["batch", "classes"])],
        constants,
        **graph,
    )
    return helper.make_model(
        made, opset_imports=[helper.make_opsetid(*each) for each in opsets], ir_version=9
    )


def plain(**changes):
    """A head that is in order."""
    return build([node("Gemm", ["features", "weight"], ["logits"], transB=1)], **changes)


def after(*nodes, constants=(), **changes):
    """A head whose logits go through further nodes, from `z` to `logits`."""
    return build([GEMM, *nodes], constants, **changes)


def external():
    tensor = TensorProto(name="w", data_type=FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="private/key.txt")
    return after(node("Add", ["z", "w"], ["logits"]), constants=[tensor])


def external_without_a_place():
    model = after(node("Add", ["z", "w"], ["logits"]), constants=[constant("w", 1)])
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL
    return model


def body(*nodes, inputs=(), outputs=(), constants=()):
    return helper.make_graph(list(nodes), "body", list(inputs), list(outputs), list(constants))


def endless():
    own = body(
        node("Identity", ["go"], ["on"]),
        inputs=[info("i", INT64, []), info("go", TensorProto.BOOL, []), info("x", FLOAT, None)],
        outputs=[info("on", TensorProto.BOOL, []), info("x", FLOAT, None)],
    )
    yes = numpy_helper.from_array(np.array(True), "yes")
    return after(node("Loop", ["", "yes", "z"], ["logits"], body=own), constants=[yes])


def branches():
    own = body(node("Identity", ["z"], ["y"]), outputs=[info("y", FLOAT, None)])
    yes = node("Greater", ["z", "z"], ["yes"])
    return after(yes, node("If", ["yes"], ["logits"], then_branch=own, else_branch=own))


def scan():
    own = body(
        node("Relu", ["x"], ["y"]),
        inputs=[info("x", FLOAT, None)],
        outputs=[info("y", FLOAT, None)],
    )
    return after(node("Scan", ["z"], ["logits"], body=own, num_scan_inputs=1))


def function():
    model = after(node("Mine", ["z"], ["logits"], domain="mine"), opsets=[("", 18), ("mine", 1)])
    opsets = [helper.make_opsetid("", 18)]
    relu = node("Relu", ["x"], ["y"])
    model.functions.append(helper.make_function("mine", "Mine", ["x"], ["y"], [relu], opsets))
    return model


def training():
    model = plain()
    model.training_info.add()
    return model


def metadata():
    model = plain()
    model.metadata_props.add(key="ort_config", value="{}")
    return model


def sparse():
    model = plain()
    values, where = constant("s", 1), constant("i", 0)
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, where, [DIM]))
    return model


def sparse_input():
    return plain(inputs=[helper.make_sparse_tensor_value_info("s", FLOAT, [DIM])])


def hidden_in_an_attribute(**attribute):
    return after(node("Relu", ["z"], ["logits"], **attribute))


def bomb(size):
    """What the gathered cases call a graph of 397 bytes that takes gigabytes."""
    return after(
        node("ConstantOfShape", ["n"], ["big"]),
        node("ReduceSum", ["big"], ["sum"], keepdims=0),
        node("Add", ["z", "sum"], ["logits"]),
        constants=[constant("n", size)],
    )


def doubling(times):
    """Ever more columns, then none of them."""
    steps = [node("Concat", [f"x{i}"] * 2, [f"x{i + 1}"], axis=1) for i in range(times)]
    return build(
        [
            node("Relu", ["features"], ["x0"]),
            *steps,
            node("ReduceMean", [f"x{times}", "one"], ["m"], keepdims=1),
            GEMM,
            node("Add", ["z", "m"], ["logits"]),
        ],
        [constant("one", 1)],
    )


def padded(width):
    return build(
        [
            node("Pad", ["features", "pads"], ["p"]),
            node("ReduceMean", ["p", "one"], ["m"], keepdims=1),
            GEMM,
            node("Add", ["z", "m"], ["logits"]),
        ],
        [constant("pads", 0, 0, 0, width), constant("one", 1)],
    )


def outer(rows, columns):
    """A row and a column that together are a matrix of rows x columns."""
    return build(
        [
            node("Pad", ["features", "down"], ["a"]),
            node("Reshape", ["a", "row"], ["b"]),
            node("Reshape", ["a", "column"], ["c"]),
            node("Mul", ["b", "c"], ["d"]),
            node("ReduceMean", ["d", "last"], ["s"], keepdims=0),
            node("Reshape", ["s", "upright"], ["m"]),
            GEMM,
            node("Add", ["z", "m"], ["logits"]),
        ],
        [
            constant("down", 0, 0, 0, rows - DIM),
            constant("row", 0, 1, -1),
            constant("column", 0, -1, 1),
            constant("last", 1, 2),
            constant("upright", -1, 1),
        ],
    )


def square_of_the_batch():
    return build(
        [
            node("Transpose", ["features"], ["t"], perm=[1, 0]),
            node("MatMul", ["features", "t"], ["gram"]),
            node("ReduceMean", ["gram", "one"], ["m"], keepdims=1),
            GEMM,
            node("Add", ["z", "m"], ["logits"]),
        ],
        [constant("one", 1)],
    )


def busy(times, width):
    """Large products one after the other; few bytes, few values, hours."""
    steps = [node("MatMul", [f"x{i}", "square"], [f"x{i + 1}"]) for i in range(times)]
    return build(
        [
            node("Pad", ["features", "pads"], ["p"]),
            node("Reshape", ["p", "shape"], ["x0"]),
            *steps,
            node("ReduceMean", [f"x{times}", "last"], ["s"], keepdims=0),
            node("Reshape", ["s", "upright"], ["m"]),
            GEMM,
            node("Add", ["z", "m"], ["logits"]),
        ],
        [
            constant("pads", 0, 0, 0, width * width - DIM),
            constant("shape", -1, width, width),
            constant("last", 1, 2),
            constant("upright", -1, 1),
        ],
        [info("square", FLOAT, [width, width])],
    )


def many_axes(axes):
    steps = [
        node("Reshape", ["z", "more"], ["y"]),
        node("Reshape", ["y", "back"], ["logits"]),
    ]
    more = [0, *[1] * (axes - 2), -1]
    return after(*steps, constants=[constant("more", *more[:64]), constant("back", 0, -1)])


def chosen_by_the_frame():
    """Where a value is cut depends on what is in the picture."""
    return after(
        node("Cast", ["z"], ["i"], to=INT64),
        node("Gather", ["weight", "i"], ["logits"], axis=0),
    )


HOSTILE = {
    "external data": (external(), "external data"),
    "external data without a place": (external_without_a_place(), "external data"),
    "a loop": (endless(), "control flow"),
    "branches": (branches(), "'Greater'|control flow"),
    "a scan": (scan(), "control flow"),
    "a function": (function(), "has functions"),
    "training": (training(), "training graphs"),
    "settings in the metadata": (metadata(), "metadata"),
    "a sparse constant": (sparse(), "sparse constants"),
    "a sparse input": (sparse_input(), "sparse tensor"),
    "a tensor in an attribute": (hidden_in_an_attribute(x=constant("t", 1)), "has a tensor"),
    "a graph in an attribute": (hidden_in_an_attribute(x=body()), "control flow"),
    "graphs in an attribute": (hidden_in_an_attribute(x=[body()]), "control flow"),
    "an unknown attribute": (hidden_in_an_attribute(x=1), "has attribute 'x'; allowed: none"),
    "texts in an attribute": (hidden_in_an_attribute(x=["a"]), "which no export writes"),
    "ConstantOfShape": (bomb(10**10), "operator 'ConstantOfShape'; allowed: Add, AveragePool"),
    "Expand": (
        after(node("Expand", ["z", "n"], ["logits"]), constants=[constant("n", 1 << 40)]),
        "2147483647|'Expand'",
    ),
    "Tile": (
        after(node("Tile", ["z", "n"], ["logits"]), constants=[constant("n", 9, 9)]),
        "'Tile'",
    ),
    "a domain": (
        after(
            node("FusedGemm", ["z"], ["logits"], domain="com.microsoft"),
            opsets=[("", 18), ("com.microsoft", 1)],
        ),
        r"operators of 'com\.microsoft'",
    ),
    "a domain that is not declared": (
        after(node("Conv", ["z", "z", "z"], ["logits"], domain="com.microsoft.nchwc")),
        "does not say which opset",
    ),
    "an old opset": (plain(opsets=[("", 12)]), "opset 12 of '', allowed: 18 to 21"),
    "an opset of the future": (plain(opsets=[("", 99)]), "opset 99"),
    "no opset": (plain(opsets=[]), "which opset"),
    "two opsets": (plain(opsets=[("", 18), ("", 19)]), "two versions"),
    "doubled again and again": (doubling(40), "values at a time"),
    "padded without end": (padded(1 << 30), "values at a time"),
    "a row and a column": (outer(20_000, 20_000), "values at a time"),
    "the square of the batch": (square_of_the_batch(), "grows faster than the batch"),
    "hours of products": (busy(4000, 4096), "multiplications"),
    "65 axes": (plain(inputs=[info("w", FLOAT, [1] * 65)]), "more than 8 of 'dim'"),
    "9 axes": (many_axes(9), "9 axes, at most 8"),
    "64 axes in between": (many_axes(64), "64 axes, at most 8"),
    "a constant of 65 axes": (
        plain(constants=[TensorProto(name="c", data_type=FLOAT, dims=[1] * 65)]),
        "more than 8 of 'dims'",
    ),
    "a large constant": (
        plain(constants=[constant("c", *range(65))]),
        r"shape \[65\], at most 64 values|more than 64",
    ),
    "a constant that says that it is large": (
        plain(constants=[TensorProto(name="c", data_type=FLOAT, dims=[1 << 30] * 3)]),
        "at most 64 values",
    ),
    "a constant without its bytes": (
        plain(constants=[TensorProto(name="c", data_type=FLOAT, dims=[3])]),
        "0 bytes of values",
    ),
    "a constant of texts": (
        plain(constants=[helper.make_tensor("c", TensorProto.STRING, [1], [b"x"])]),
        "which no export writes",
    ),
    "no outputs": (plain(outputs=[]), "has the outputs none, expected 'logits' alone"),
    "two outputs": (
        plain(outputs=[info(n, FLOAT, ["batch", "classes"]) for n in ("logits", "z")]),
        "'z'",
    ),
    "another output": (plain(outputs=[info("z", FLOAT, ["batch", "classes"])]), "outputs 'z'"),
    "an output of one length": (plain(outputs=[info("logits", FLOAT, ["batch", 5])]), "must have"),
    "an output of another shape": (
        build(
            [node("Gemm", ["features", "weight"], ["logits"], transB=1)],
            inputs=[info("unused", FLOAT, [3])],
            outputs=[info("logits", FLOAT, ["batch", "classes", "classes"])],
        ),
        "must have 2 axes",
    ),
    "an output of another type": (
        plain(outputs=[info("logits", TensorProto.FLOAT16, ["batch", "classes"])]),
        "type 10",
    ),
    "an input for an output": (
        build([], inputs=[info("logits", FLOAT, ["classes", 3])]),
        "should be",
    ),
    "float8 weights": (plain(inputs=[info("w", TensorProto.FLOAT8E4M3FN, [3])]), "type 17"),
    "weights of text": (plain(inputs=[info("w", TensorProto.STRING, [3])]), "type 8"),
    "a free axis of another name": (plain(inputs=[info("w", FLOAT, ["n"])]), "free axes 'n'"),
    "an axis without a length": (plain(inputs=[info("w", FLOAT, [None])]), "length or a name"),
    "an axis of length 0": (plain(inputs=[info("w", FLOAT, [0])]), "length 0"),
    "an input without a shape": (plain(inputs=[info("w", FLOAT, None)]), "no 'shape'"),
    "no features": (
        helper.make_model(
            helper.make_graph([], "g", [], [info("logits", FLOAT, ["batch", "classes"])]),
            opset_imports=[helper.make_opsetid("", 18)],
            ir_version=9,
        ),
        "no input 'features'",
    ),
    "an input that has a value": (plain(constants=[constant("weight", 1)]), "has a value already"),
    "a value that is made twice": (after(GEMM), "not there yet"),
    "a value that nobody makes": (after(node("Add", ["z", "y"], ["logits"])), "'y', which is not"),
    "an input that is left out": (after(node("Add", ["z", ""], ["logits"])), "''"),
    "a gather by a value": (chosen_by_the_frame(), "float32 and float16 are allowed"),
    "a shape from the frame": (
        after(node("Reshape", ["z", "features"], ["logits"])),
        "must be a constant of the graph",
    ),
    "a scale of another length": (
        build(
            [node("LayerNormalization", ["features", "s", "s"], ["x"]), GEMM],
            inputs=[info("s", FLOAT, [DIM - 1])],
        ),
        "LayerNormalization: shapes .* do not fit each other",
    ),
    "channels that fill no block": (
        build(
            [
                node("Reshape", ["features", "image"], ["x"]),
                node("Conv", ["x", "f", "b"], ["y"], domain="com.microsoft.nchwc"),
            ],
            [constant("image", 0, 3, 1, -1)],
            [info("f", FLOAT, [20, 3, 1, 1]), info("b", FLOAT, [20])],
            opsets=[("", 18), ("com.microsoft.nchwc", 1)],
        ),
        "20 channels do not fill blocks of 16",
    ),
    "a bias of another length": (
        build(
            [
                node("Reshape", ["features", "image"], ["x"]),
                node("Conv", ["x", "f", "b"], ["y"]),
            ],
            [constant("image", 0, 3, 1, -1)],
            [info("f", FLOAT, [20, 3, 1, 1]), info("b", FLOAT, [19])],
        ),
        r"a bias \(19\) does not fit filters",
    ),
    "too many nodes": (
        after(*[node("Relu", ["z"], [f"y{i}"]) for i in range(5000)]),
        "more than 4096 of 'node'",
    ),
    "too many inputs": (
        plain(inputs=[info(f"w{i}", FLOAT, [1]) for i in range(5000)]),
        "more than 4096 of 'input'",
    ),
    "control characters": (after(node("\x1b[2J", ["z"], ["logits"])), r"'\\x1b\[2J'"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_graph_that_no_export_writes_is_refused_with_what_is_wrong(name):
    model, message = HOSTILE[name]
    start = time.process_time()
    with pytest.raises(FormatError, match=message) as error:
        check_graph(model.SerializeToString(), "head", "graphs/head.onnx")
    assert time.process_time() - start < 1
    text = str(error.value)
    assert text.startswith("'graphs/head.onnx' is not a graph that may be opened: ")
    assert text.endswith("; export the bundle again, or get it from someone you trust")
    assert text.isprintable()


@pytest.mark.parametrize(
    "model",
    [plain(), doubling(20), padded(1 << 20), outer(1000, 1000), many_axes(8), busy(3, 64)],
    ids=["plain", "doubled", "padded", "outer", "axes", "products"],
)
def test_the_same_within_bounds_is_allowed(model):
    """So it is the size that the tests above refuse."""
    check_graph(model.SerializeToString(), "head", "g")


def nested(depth):
    """A message in a message in a message."""
    content = b""
    for _ in range(depth):
        size, length = len(content), b""
        while size > 127:
            length, size = length + bytes([size & 127 | 128]), size >> 7
        content = b"\x3a" + length + bytes([size]) + content
    return content


WIRE = {
    "nothing": (b"", "no 'graph'"),
    "half of it": (lambda c: c[: len(c) // 2], "ends"),
    "more behind it": (lambda c: c + b"\x00\x00", "field number 0"),
    "an overlong number": (lambda c: b"\x08\x89\x00" + c[2:], "longer than it need be"),
    "a number of 80 bits": (b"\x08" + 10 * b"\xff" + b"\x01", "more than 64 bits"),
    "the same field twice": (lambda c: b"\x08\x09" + c, "more than 1 of 'ir_version'"),
    "two graphs, which protobuf would merge": (lambda c: c + c, "more than 1 of"),
    "a group": (lambda c: c + b"\x7b\x7c", "wire type 3"),
    "an unknown field": (lambda c: c + b"\xa2\x06\x00", "field 100"),
    "a number for a graph": (b"\x38\x01", "wire type 0"),
    "a field that is longer than the file": (b"\x3a\xff\xff\xff\xff\x0f", "ends behind"),
    "deep nesting": (nested(2000), "which no export writes"),
    "a row of empty fields": (
        b"\x3a\x80\x89\x7a" + b"\x5a\x00" * 1_000_000,
        "more than 4096|bytes",
    ),
    "a huge file": (b"\x08\x09" * MAX_BYTES, f"at most {MAX_BYTES}"),
    "no UTF-8": (lambda c: c.replace(b"Gemm", b"G\xff\xffm"), "UTF-8"),
    "zeros": (b"\x00" * 1000, "field number 0"),
}


@pytest.mark.parametrize("name", WIRE)
def test_bytes_that_readers_could_take_for_different_graphs_are_refused(name):
    change, message = WIRE[name]
    content = change(plain().SerializeToString()) if callable(change) else change
    start = time.process_time()
    with pytest.raises(FormatError, match=message):
        check_graph(content, "head", "g")
    assert time.process_time() - start < 1


@pytest.mark.parametrize("kind", ["encoder", "head"])
def test_flipped_and_missing_bytes_are_one_error_or_a_graph_within_bounds(kind):
    content = encoder_graph(True) if kind == "encoder" else head_graph(True)
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(1500):
        changed = bytearray(content)
        for _ in range(rng.integers(1, 4)):
            changed[rng.integers(len(changed))] = rng.integers(256)
        if rng.random() < 0.2:
            del changed[rng.integers(len(changed)) :]
        start = time.process_time()
        try:
            check_graph(bytes(changed), kind, "g")
        except FormatError:
            refused += 1
        assert time.process_time() - start < 0.5
    assert refused > 700


def test_a_graph_of_one_kind_is_not_one_of_the_other():
    with pytest.raises(FormatError, match="'features' has free axes 'batch', expected none"):
        check_graph(head_graph(), "encoder", "g")
    with pytest.raises(FormatError, match="input 'pixels' has ONNX's type 2|no input 'features'"):
        check_graph(encoder_graph(), "head", "g")


@pytest.fixture
def hostile(world, tmp_path):
    """Return a function that writes a bundle with a hostile head, all digests right."""

    def put(content: bytes):
        own = HeadGraph("linear", content, {"weight": (-1, DIM)})
        tasks = [replace(task, head=sha256(content)) for task in world.tasks.values()]
        bundle.write(tmp_path / "bad", **{**world.parts, "heads": [own], "tasks": tasks})
        return tmp_path / "bad"

    return put


@pytest.mark.parametrize("strategy", ["patch", "engines"])
def test_no_session_opens_it(hostile, strategy, frame):
    path = hostile(external().SerializeToString())
    with pytest.raises(FormatError, match="external data"):
        runtime.Session.open(path, strategy=strategy)


def test_no_engine_is_built_from_it(hostile):
    opened = Bundle.open(hostile(endless().SerializeToString()))
    for graphs in (graphs_of, lambda b: list(baked_graphs(b))):
        with pytest.raises(FormatError, match="control flow"):
            graphs(opened)


def test_an_encoder_is_checked_before_values_become_constants(world, tmp_path):
    """A file's content that is read as a constant would look like one of ours afterwards."""
    content = encoder_graph()
    changed = content + b"\xca\x01\x00"  # an empty function
    own = replace(world.parts["encoders"][0], graph=changed)
    tasks = [replace(task, encoder=sha256(changed)) for task in world.tasks.values()]
    bundle.write(tmp_path / "bad", **{**world.parts, "encoders": [own], "tasks": tasks})
    for strategy in ("patch", "engines"):
        with pytest.raises(FormatError, match="functions"):
            runtime.Session.open(tmp_path / "bad", strategy=strategy)


def test_a_graph_of_many_bytes_is_not_even_read(world, hostile):
    path = hostile(head_graph() + b"\x12\x00" * MAX_BYTES)
    opened = Bundle.open(path)
    ref = opened.manifest.heads[0].graph
    (path / ref.path).unlink()
    with pytest.raises(FormatError, match=f"at most {MAX_BYTES} are allowed"):
        opened.graph(ref)


def test_pixels_have_the_types_and_axes_of_a_frame():
    model = helper.make_model(
        helper.make_graph(
            [
                node("Cast", ["pixels"], ["f"], to=FLOAT),
                node("ReduceMean", ["f", "axes"], ["features"], keepdims=0),
            ],
            "g",
            [info("pixels", TensorProto.UINT8, ["batch", SIZE, "wide", 3])],
            [info("features", FLOAT, ["batch", 3])],
            [constant("axes", 1, 2)],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    with pytest.raises(
        FormatError, match="'pixels' has free axes 'batch', 'wide', expected 'batch'"
    ):
        check_graph(model.SerializeToString(), "encoder", "g")
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = SIZE
    check_graph(model.SerializeToString(), "encoder", "g")
