import numpy as np
import pytest

from runtime.errors import FormatError
from runtime.memory.bf16 import narrowed, widened
from runtime.memory.form import Form
from runtime.memory.weights import Weights
from runtime.models import TensorSpec
from runtime.patch import SparseTensor, diff, merge
from runtime.storage.digest import tensors_sha256
from tests.runtime.conftest import on_grid

SHAPES = {"row": (999,), "filters": (32, 3, 2, 2), "scalar": (), "matrix": (300, 700)}
BF16 = Form(bf16=True)


def draw(seed):
    rng = np.random.default_rng(seed)
    base = {n: np.array(rng.standard_normal(s), np.float32) for n, s in SHAPES.items()}
    return {name: on_grid(array) if array.ndim > 1 else array for name, array in base.items()}


def make(tensors, form):
    layout = [TensorSpec(name, "float32", array.shape) for name, array in tensors.items()]
    weights = Weights(np.empty(sum(s.nbytes for s in form.held(layout)), np.uint8), layout, form)
    for name, array in tensors.items():
        weights.put(name, array)
    return weights


def test_bfloat16_values_come_back_bit_by_bit():
    every = np.arange(1 << 16, dtype=np.uint32) << 16  # also infinite ones, and those of no number
    values = every.view(np.float32).reshape(2, -1)
    bits = narrowed(values, "all")
    assert bits.reshape(-1).tolist() == list(range(1 << 16))
    assert widened(bits).tobytes() == values.tobytes()
    assert narrowed(np.empty(0, np.float32), "nothing").size == 0


@pytest.mark.parametrize("bit", [0, 15])
def test_another_value_is_refused_and_named(bit):
    values = on_grid(np.random.default_rng(0).standard_normal((50, 7)).astype(np.float32))
    values.view(np.uint32)[31, 5] |= 1 << bit
    with pytest.raises(FormatError, match=f"^'x' holds {values[31, 5]:.9g}, expected bfloat16"):
        narrowed(values, "'x'")


@pytest.mark.parametrize("form", [BF16, Form(16, True), Form(16)])
def test_any_sequence_of_patches_equals_merging_onto_the_base(form):
    base = draw(0)
    weights, kept = make(base, form), make(base, form).views()
    assert weights["matrix"].dtype == ("uint16" if form.bf16 else "float32")
    assert weights["row"].dtype == weights["scalar"].dtype == np.float32
    rng = np.random.default_rng(1)
    changed = []
    for seed, share in ((1, 0.001), (2, 0.2), (3, 1.0)):
        other = draw(seed)
        takes = {name: rng.random(array.shape) < share for name, array in base.items()}
        changed.append({n: np.where(takes[n], other[n], base[n]) for n in base})
    patches = [diff(base, each) for each in changed]
    ready = [weights.prepare(patch) for patch in patches]
    for choice in rng.integers(-1, 3, 40).tolist():
        weights.apply(ready[choice] if choice >= 0 else None)
        want = merge(base, patches[choice]) if choice >= 0 else base
        for name, array in want.items():
            assert weights.original(name).tobytes() == array.tobytes(), (choice, name)
    weights.apply(ready[1])
    assert weights.sha256() == tensors_sha256(base)
    assert all(weights[name].tobytes() == array.tobytes() for name, array in kept.items())


def test_an_entry_of_two_bytes_takes_six():
    weights = make(draw(0), BF16)
    where = np.arange(0, 200_000, 40, dtype=np.uint32)
    ready = weights.prepare({"matrix": SparseTensor(where, np.ones(where.size, np.float32))})
    assert ready.nbytes == 6 * where.size


def test_a_patch_of_other_values_is_refused_and_changes_nothing():
    base = draw(0)
    weights = make(base, BF16)
    one, odd = np.zeros(1, np.uint32), np.array([1.001], np.float32)
    weights.prepare({"row": SparseTensor(one, odd)})
    with pytest.raises(FormatError, match=r"the patch of 'matrix' holds 1.00100005, expected bfl"):
        weights.prepare({"matrix": SparseTensor(one, odd)})
    assert weights.sha256() == tensors_sha256(base)
