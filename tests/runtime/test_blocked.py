import numpy as np
import onnxruntime
import pytest

from runtime.errors import FormatError
from runtime.memory import blocked
from runtime.memory.blocked import block_size, fits, from_blocks, positions, to_blocks
from runtime.memory.form import Form
from runtime.memory.weights import Weights
from runtime.models import TensorSpec
from runtime.patch import SparseTensor, merge

SHAPES = [(32, 3, 3, 3), (64, 32, 3, 3), (48, 16, 1, 1), (16, 32, 2, 5)]


def numbered(shape):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("block", [8, 16])
def test_blocked_order_is_the_one_of_a_loop_over_the_entries(shape, block):
    o, i, h, w = shape
    filters, expected = numbered(shape), []
    inner = block if i >= block else 1
    for ob in range(0, o, block):
        for ib in range(0, i, inner):
            for y in range(h):
                for x in range(w):
                    for c in range(inner):
                        expected += [float(filters[ob + k, ib + c, y, x]) for k in range(block)]
    found = to_blocks(filters, block)
    assert found.shape == shape and found.reshape(-1).tolist() == expected
    assert np.array_equal(from_blocks(found, block), filters)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("block", [8, 16])
def test_positions_are_where_the_entries_went(shape, block):
    indices = np.arange(np.prod(shape), dtype=np.uint32)
    blocked = to_blocks(numbered(shape), block).reshape(-1)
    assert np.array_equal(blocked[positions(indices, shape, block)], indices)


def test_channels_that_make_no_whole_blocks_do_not_fit():
    assert fits((32, 3, 3, 3), 16) and fits((64, 32, 1, 1), 16)
    assert not fits((24, 3, 3, 3), 16) and not fits((32, 24, 3, 3), 16)


def test_the_probed_block_size_is_how_this_processor_orders_channels():
    block = block_size(onnxruntime)
    if block == 1:
        pytest.skip("ONNX Runtime has no blocked operators for this processor")
    session = onnxruntime.InferenceSession(blocked._PROBE, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).standard_normal((1, 64, 1, 2)).astype(np.float32)
    want = x.reshape(64 // block, block, 2).transpose(0, 2, 1).reshape(x.shape)
    assert np.array_equal(session.run(None, {"x": x})[0], want)


def make_weights(block):
    draw = np.random.default_rng(0)
    base = {"a": (16, 3, 2, 2), "b": (7,), "c": (32, 16, 3, 3), "d": (5, 4)}
    tensors = {n: draw.standard_normal(s).astype(np.float32) for n, s in base.items()}
    specs = [TensorSpec(n, "float32", t.shape) for n, t in tensors.items()]
    weights = Weights(np.empty(sum(s.nbytes for s in specs), np.uint8), specs, Form(block))
    for name, tensor in tensors.items():
        weights.put(name, tensor)
    return tensors, weights


def make_patch(tensors, seed):
    draw = np.random.default_rng(seed)
    patch = {}
    for name, tensor in tensors.items():
        where = np.flatnonzero(draw.random(tensor.size) < 0.2).astype(np.uint32)
        if where.size:
            patch[name] = SparseTensor(where, draw.standard_normal(where.size).astype(np.float32))
    return patch


def test_patches_reach_the_same_entries_in_blocked_weights():
    tensors, weights = make_weights(8)
    assert not np.array_equal(weights["c"], tensors["c"])
    patches = [make_patch(tensors, seed) for seed in range(3)]
    ready = [weights.prepare(patch) for patch in patches]
    for number in np.random.default_rng(1).integers(0, 3, 40).tolist():
        weights.apply(ready[number])
        expected = merge(tensors, patches[number])
        for name in tensors:
            assert weights.original(name).tobytes() == expected[name].tobytes()
    weights.apply(())
    for name, tensor in tensors.items():
        assert weights.original(name).tobytes() == tensor.tobytes()


def test_weights_stay_as_they_are_without_blocks():
    with pytest.raises(FormatError, match="'a' .* make no whole blocks of 32"):
        make_weights(32)
    tensors, weights = make_weights(1)
    assert all(np.array_equal(weights[name], tensor) for name, tensor in tensors.items())
