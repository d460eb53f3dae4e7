import threading
import tracemalloc

import numpy as np
import pytest

from runtime.errors import FormatError
from runtime.memory.weights import Weights
from runtime.models import TensorSpec
from runtime.patch import SparseTensor, merge

LAYOUT = [
    TensorSpec("a", "float32", (1000, 333)),
    TensorSpec("b", "float32", (7,)),
    TensorSpec("c", "float16", (800_000,)),
    TensorSpec("d", "float16", (3,)),
]


def random_patch(rng, most):
    found = {}
    for spec in LAYOUT:
        count = min(most, spec.size)
        where = np.sort(rng.choice(spec.size, count, replace=False)).astype(np.uint32)
        found[spec.name] = SparseTensor(where, rng.standard_normal(count).astype(spec.dtype))
    return found


def make(rng):
    buffer = rng.integers(0, 100, sum(s.nbytes for s in LAYOUT)).astype(np.uint8)
    return buffer, Weights(buffer, LAYOUT)


def test_any_sequence_of_patches_equals_merging_onto_the_base():
    rng = np.random.default_rng(0)
    buffer, weights = make(rng)
    untouched = buffer.tobytes()
    base = {name: view.copy() for name, view in weights.views().items()}
    patches = [random_patch(rng, n) for n in (1, 3, 50, 5000, 2)]
    ready = []
    for found in patches:  # prepared while another one is applied
        ready.append(weights.prepare(found))
        weights.apply(ready[-1])
    for _ in range(100):
        choice = int(rng.integers(-1, len(patches)))
        weights.apply(ready[choice] if choice >= 0 else ())
        want = merge(base, patches[choice]) if choice >= 0 else base
        for name, array in want.items():
            assert weights[name].tobytes() == array.tobytes(), (choice, name)
    weights.apply(())
    assert buffer.tobytes() == untouched


@pytest.mark.parametrize("gap", [1, 65535, 65536, 65537, 131070, 131071, 262140, 700_000])
def test_gaps_of_any_width_are_applied(gap):
    rng = np.random.default_rng(1)
    _, weights = make(rng)
    base = weights["c"].copy()
    found = {"c": SparseTensor(np.array([3, 3 + gap], np.uint32), np.array([9, 8], np.float16))}
    weights.apply(weights.prepare(found))
    want = base.copy()
    want[[3, 3 + gap]] = [9, 8]
    assert weights["c"].tobytes() == want.tobytes()


def test_a_resident_entry_takes_ten_bytes():
    rng = np.random.default_rng(2)
    _, weights = make(rng)
    where = np.sort(rng.choice(333_000, 5000, replace=False)).astype(np.uint32)
    ready = weights.prepare({"a": SparseTensor(where, np.ones(5000, np.float32))})
    assert ready.nbytes == 50_000


def test_a_patch_that_does_not_fit_is_refused_before_anything_changes():
    buffer, weights = make(np.random.default_rng(3))
    before = buffer.tobytes()
    with pytest.raises(FormatError, match="'x', which the base does not have"):
        weights.prepare({"x": SparseTensor(np.zeros(1, np.uint32), np.zeros(1, np.float32))})
    with pytest.raises(FormatError, match="entry 7 of 7"):
        weights.prepare({"b": SparseTensor(np.array([7], np.uint32), np.zeros(1, np.float32))})
    assert buffer.tobytes() == before


def test_a_buffer_of_another_size_is_refused():
    with pytest.raises(FormatError, match="their table says"):
        Weights(np.zeros(11, np.uint8), LAYOUT)


def test_tensors_of_one_type_must_lie_together():
    mixed = [LAYOUT[1], LAYOUT[3], TensorSpec("e", "float32", (1,))]
    with pytest.raises(FormatError, match="do not lie together"):
        Weights(np.zeros(28 + 6 + 4, np.uint8), mixed)


def test_a_patch_is_prepared_while_another_thread_switches():
    rng = np.random.default_rng(4)
    buffer, weights = make(rng)
    base = {name: view.copy() for name, view in weights.views().items()}
    # More entries than are read at once, in both types, many of them in several patches.
    patches = [random_patch(rng, n) for n in (50_000, 40_000, 60_000, 7)]
    switching = [weights.prepare(found) for found in patches[:2]]
    flat = {
        "float32": np.concatenate([base["a"].reshape(-1), base["b"]]),
        "float16": np.concatenate([base["c"], base["d"]]),
    }
    switches, prepared, stop = [0], [], threading.Event()

    def switch() -> None:
        while not stop.is_set():
            weights.apply(switching[switches[0] % 2])
            switches[0] += 1

    thread = threading.Thread(target=switch)
    thread.start()
    try:
        for number in range(60):
            prepared.append((number % 4, weights.prepare(patches[number % 4])))
    finally:
        stop.set()
        thread.join()
    assert switches[0] > 60
    for number, ready in prepared:
        for scatter in ready:
            where = np.cumsum(scatter.gaps, dtype=np.int64)
            assert scatter.undo.tobytes() == flat[scatter.dtype][where].tobytes()
        weights.apply(ready)
        for name, array in merge(base, patches[number]).items():
            assert weights[name].tobytes() == array.tobytes(), (number, name)
    weights.apply(())
    assert buffer.tobytes() == b"".join(array.tobytes() for array in base.values())


def test_a_switch_allocates_nothing():
    rng = np.random.default_rng(5)
    _, weights = make(rng)
    ready = [weights.prepare(random_patch(rng, n)) for n in (200_000, 3000, 150_000)]
    peaks = []
    tracemalloc.start()
    try:
        for number in (0, 1, 2, 0, 1):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            weights.apply(ready[number])
            peaks.append(tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    assert max(peaks) < 4096  # the indices alone would take 1.6 MB


def test_weights_of_the_same_base_take_each_others_patches():
    rng = np.random.default_rng(6)
    buffer, first = make(rng)
    second = Weights(buffer.copy(), LAYOUT)
    base = {name: view.copy() for name, view in first.views().items()}
    patches = [random_patch(rng, n) for n in (40, 5000)]
    ready = [weights.prepare(p) for weights, p in zip((first, second), patches, strict=True)]
    for weights in (first, second, first):
        for found, patch in zip(patches, ready, strict=True):
            weights.apply(patch)
            for name, array in merge(base, found).items():
                assert weights[name].tobytes() == array.tobytes()
