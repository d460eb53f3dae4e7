import itertools

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from runtime import backends
from runtime.backends.bake import bake
from runtime.errors import BackendError, FormatError

SHAPES = {"filters": (16, 3, 3, 3), "matrix": (16, 8), "bias": (8,)}


def model(extra_inputs=(), initializers=(), floats=TensorProto.FLOAT) -> bytes:
    """A convolution, a mean, a matrix product; pixels (N, 3, 8, 8) float32 -> y (N, 8)."""
    value = helper.make_tensor_value_info
    nodes = [
        ("Conv", ["x", "filters"], "c", {"pads": [1, 1, 1, 1]}),
        ("Relu", ["c"], "r", {}),
        ("ReduceMean", ["r", "axes"], "m", {"keepdims": 0}),
        ("MatMul", ["m", "matrix"], "p", {}),
        ("Add", ["p", "bias"], "y", {}),
    ]
    graph = helper.make_graph(
        [helper.make_node(kind, given, [made], **more) for kind, given, made, more in nodes],
        "g",
        [
            value("x", floats, ["n", 3, 8, 8]),
            *(value(name, floats, shape) for name, shape in SHAPES.items()),
            *extra_inputs,
        ],
        [value("y", floats, ["n", 8])],
        [helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3]), *initializers],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    made.metadata_props.add(key="note", value="kept")
    return made.SerializeToString()


def weights(dtype="float32"):
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in SHAPES.items()}


def run(content: bytes, **inputs):
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


def test_the_onnx_package_reads_the_inputs_as_external_constants_and_all_else_unchanged():
    content, arrays = model(), weights()
    baked, plain = onnx.load_from_string(bake(content, arrays)), onnx.load_from_string(content)
    found = list(baked.graph.initializer)[1:]
    assert [tensor.name for tensor in found] == list(arrays)
    for tensor, array in zip(found, arrays.values(), strict=True):
        assert tuple(tensor.dims) == array.shape
        assert tensor.data_type == TensorProto.FLOAT
        assert tensor.data_location == TensorProto.EXTERNAL
        assert [entry.key for entry in tensor.external_data] == ["location"]
    del baked.graph.initializer[1:], plain.graph.input[1:]
    assert baked == plain


def test_with_the_values_filled_in_it_is_a_sound_model_of_the_same_results():
    content, arrays = model(), weights()
    baked = onnx.load_from_string(bake(content, arrays))
    del baked.graph.initializer[1:]
    baked.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in arrays.items())
    onnx.checker.check_model(baked, full_check=True)
    x = np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(
        run(baked.SerializeToString(), x=x), run(content, x=x, **arrays), rtol=1e-5, atol=1e-5
    )


def test_an_engine_of_baked_weights_computes_what_the_weight_free_graph_does():
    content, arrays = model(), weights()
    x = np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)
    want = run(content, x=x, **arrays)
    engine = backends.load("ort", "cpu", 1).open(content, baked=arrays)
    assert engine.inputs == {"x"}
    np.testing.assert_allclose(engine.run({"x": x}), want, rtol=1e-5, atol=1e-5)


def test_an_engine_keeps_none_of_the_arrays():
    """They are overwritten after the opening; what the engine computes stays, bit for bit."""
    content, arrays = model(), weights()
    x = np.ones((1, 3, 8, 8), np.float32)
    engine = backends.load("ort", "cpu", 1).open(content, baked=arrays)
    before = engine.run({"x": x})
    for array in arrays.values():
        array[...] = 77
    np.testing.assert_array_equal(engine.run({"x": x}), before)


def test_float16_weights_are_declared_as_such():
    content = model(floats=TensorProto.FLOAT16)
    baked = onnx.load_from_string(bake(content, weights("float16")))
    assert {t.data_type for t in list(baked.graph.initializer)[1:]} == {TensorProto.FLOAT16}


def test_nothing_to_bake_leaves_the_bytes():
    assert bake(model(), {}) == model()


@pytest.mark.parametrize(
    ("content", "change", "message"),
    [
        (model(), {"other": np.zeros(3, np.float32)}, "no input 'other'"),
        (
            model(),
            {"bias": np.zeros(1, np.float32)},
            r"'bias' has shape \[8\].*found float32\(1,\)",
        ),
        (model(), {"bias": np.zeros((1, 8), np.float32)}, r"'bias' has shape \[8\]"),
        (model(), {"bias": np.zeros(8, np.float16)}, "'bias'.*found float16"),
        (model(), {"bias": np.zeros(8, np.int64)}, "'bias'.*found int64"),
        (
            model(extra_inputs=[helper.make_tensor_value_info("bias", TensorProto.FLOAT, [8])]),
            {},
            "two inputs 'bias'",
        ),
        (
            model(initializers=[numpy_helper.from_array(np.zeros(8, np.float32), "bias")]),
            {},
            "'bias' has a value already",
        ),
        (b"", {}, "0 graphs"),
        (2 * model(), {}, "2 graphs"),
        (b"\x3a\x80", {}, "ends within a number"),
        (b"\x3a\x05abc", {}, "ends behind its message"),
        (b"\x38\x01", {}, "a number stands where a message was expected"),
        (b"\x3b\x00", {}, "wire type 3"),
        (b"\x02\x00", {}, "field number 0"),
        (b"\x3a" + 9 * b"\xff" + b"\x7f", {}, "more than 64 bits"),
        (b"\x3a" + 11 * b"\x80", {}, "more than 64 bits"),
        (b"\x3a\x05\x5a\x03\x0a\x01\xff", {}, "not UTF-8"),
    ],
)
def test_a_graph_that_is_damaged_or_does_not_fit_is_refused(content, change, message):
    with pytest.raises(FormatError, match=f"{message}.*export the bundle again"):
        bake(content, {**weights(), **change})


def parsed(content: bytes):
    try:
        return onnx.load_from_string(content)
    except Exception:  # protobuf's errors share no public base class
        return None


def test_what_is_accepted_of_altered_bytes_has_lost_the_baked_inputs_and_nothing_else():
    content, arrays = model(), weights()
    rng = np.random.default_rng(3)
    compared = refused = 0
    for position, value in itertools.product(range(len(content)), rng.integers(0, 256, 4)):
        hostile = bytearray(content)
        hostile[position] = value
        try:
            baked = bake(bytes(hostile), arrays)
        except FormatError:
            refused += 1
            continue
        before = parsed(bytes(hostile))
        if before is not None:
            kept = [i for i in before.graph.input if i.name not in arrays]
            assert list(onnx.load_from_string(baked).graph.input) == kept
            compared += 1
    assert compared > 200
    assert refused > 200


def test_a_graph_that_ends_too_early_is_refused():
    content, arrays = model(), weights()
    whole, accepted = bake(content, arrays), []
    for end in range(len(content)):
        try:
            accepted.append(bake(content[:end], arrays))
        except FormatError:
            continue
    # A message may end after any of its fields; two of them lie behind the graph.
    assert 1 <= len(accepted) <= 2
    assert all(whole.startswith(part) for part in accepted)


def test_an_engine_of_a_hostile_graph_is_a_format_error_and_of_a_wrong_one_a_backend_error():
    backend = backends.load("ort", "cpu", 1)
    with pytest.raises(FormatError, match="not a sound ONNX model"):
        backend.open(b"\xff\xff", baked=weights())
    with pytest.raises(BackendError, match="cannot open the graph"):
        backend.open(model().replace(b"Relu", b"Rela"), baked=weights())
