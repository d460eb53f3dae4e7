import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import patch
from runtime.errors import FormatError
from runtime.models import TensorSpec
from runtime.patch import SparseTensor
from runtime.storage import checksummed


def layout_of(tensors):
    return {n: TensorSpec(n, a.dtype.name, a.shape) for n, a in tensors.items()}


def sparse(indices, values, dtype=np.float32):
    return SparseTensor(np.asarray(indices, np.uint32), np.asarray(values, dtype))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["float32", "float16"]),
            st.integers(1, 400),
            st.floats(0, 1),
            st.integers(0),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_diff_encode_decode_merge_gives_the_changed_tensors_bit_for_bit(parts):
    base, changed = {}, {}
    for i, (dtype, size, share, seed) in enumerate(parts):
        rng = np.random.default_rng(seed)
        base[f"t{i}"] = rng.standard_normal(size).astype(dtype)
        new = base[f"t{i}"].copy()
        where = rng.random(size) < share
        new[where] += rng.standard_normal(int(where.sum())).astype(dtype)
        changed[f"t{i}"] = new
    found = patch.diff(base, changed)
    table, tensors = patch.encode(found)
    back = decode(table, tensors, layout_of(base))
    once = patch.merge(base, back)
    twice = patch.merge(once, back)
    for name in base:
        assert once[name].tobytes() == changed[name].tobytes()
        assert twice[name].tobytes() == changed[name].tobytes()
    copies = {name: array.copy() for name, array in base.items()}
    written = patch.merge(copies, back, in_place=True)
    for name, array in written.items():
        assert array is copies[name] and array.tobytes() == changed[name].tobytes()
    assert patch.size(back) == sum(
        int((base[n].view(f"u{base[n].itemsize}") != changed[n].view(f"u{base[n].itemsize}")).sum())
        for n in base
    )


def test_diff_sees_a_changed_sign_of_zero():
    found = patch.diff({"t": np.zeros(3, np.float32)}, {"t": np.array([0, -0.0, 0], np.float32)})
    assert found["t"].indices.tolist() == [1]


def test_a_patch_costs_at_most_five_and_a_half_bytes_per_entry_at_published_density(tmp_path):
    rng = np.random.default_rng(0)
    shapes = {f"blocks.{i}.weight": (768, 9352) for i in range(12)}  # 86.2 M entries, as ViT-B/16
    base = {
        n: (rng.standard_normal(s, dtype=np.float32) * 0.02).astype(np.float16).astype(np.float32)
        for n, s in shapes.items()
    }
    found = {}
    for name, array in base.items():
        where = np.sort(rng.choice(array.size, 4308, replace=False)).astype(np.uint32)
        new = array.reshape(-1)[where] + (rng.laplace(size=4308) * 3e-6).astype(np.float32)
        found[name] = SparseTensor(where, new.astype(np.float32))
    table, tensors = patch.encode(found)
    checksummed.write(tmp_path / "patch", "test", 1, {"patch": table}, tensors)
    assert (tmp_path / "patch").stat().st_size <= 5.5 * patch.size(found)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (sparse([3, 3], [1, 2]), "unsorted or repeated"),
        (sparse([4, 1], [1, 2]), "unsorted or repeated"),
        (sparse([9, 10], [1, 2]), "entry 10 of 10"),
        (sparse([1], [np.nan]), "not finite"),
        (sparse([1], [np.inf]), "not finite"),
        (sparse([1], [1], np.float16), "expected float32"),
        (SparseTensor(np.array([1, 2], np.uint32), np.ones(1, np.float32)), "patch of 't'"),
    ],
)
def test_merge_refuses_a_patch_that_does_not_fit(bad, message):
    with pytest.raises(FormatError, match=message):
        patch.merge({"t": np.zeros((2, 5), np.float32)}, {"t": bad})


def test_merge_refuses_an_unknown_tensor():
    with pytest.raises(FormatError, match="'u', which the base does not have"):
        patch.merge({"t": np.zeros(2, np.float32)}, {"u": sparse([0], [1])})


def test_diff_refuses_tensors_that_do_not_correspond():
    one = np.zeros(2, np.float32)
    with pytest.raises(ValueError, match="names differ"):
        patch.diff({"a": one}, {"b": one})
    with pytest.raises(ValueError, match="float16"):
        patch.diff({"a": one}, {"a": one.astype(np.float16)})


def decode(table, tensors, layout):
    return patch.decode(patch.read_table(table, layout), tensors, layout)


def encoded():
    base = {"t": np.zeros(100, np.float32), "u": np.zeros((4, 4), np.float32)}
    found = {"t": sparse([0, 5, 99], [1, 2, 3]), "u": sparse([15], [4])}
    return *patch.encode(found), layout_of(base)


def test_decode_refuses_an_index_beyond_the_tensor():
    table, tensors, layout = encoded()
    smaller = {**layout, "t": TensorSpec("t", "float32", (99,))}
    with pytest.raises(FormatError, match="entry 99 of 't', which has 99"):
        decode(table, tensors, smaller)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.append(dict(t[0])), "names a tensor twice"),
        (lambda t: t[0].update(name="x"), "which the base lacks"),
        (lambda t: t[0].update(dtype="float16"), "which the base lacks"),
        (lambda t: t[0].update(count=0), "changes 0 of"),
        (lambda t: t[0].update(count=10**12), "changes 1000000000000 of"),
        (lambda t: t[0].update(count=2), "does not hold 3 entries"),
        (lambda t: t[0].update(count="3"), "must be a whole number"),
        (lambda t: t[0].update(extra=1), "unknown key 'extra'"),
        (lambda t: t[0].pop("count"), "'count' is missing"),
    ],
)
def test_decode_refuses_a_hostile_table(change, message):
    table, tensors, layout = encoded()
    change(table)
    with pytest.raises(FormatError, match=message):
        decode(table, tensors, layout)


@pytest.mark.parametrize("name", [patch.GAPS, patch.VALUES + "float32"])
@pytest.mark.parametrize(
    "change", [lambda a: a[:-3], lambda a: np.r_[a[:4], a[4:] ^ 255], lambda a: a.astype(np.int64)]
)
def test_decode_refuses_damaged_tensors(name, change):
    table, tensors, layout = encoded()
    with pytest.raises(FormatError, match="patch tensor|lacks its tensor|not finite|entry"):
        decode(table, {**tensors, name: change(tensors[name])}, layout)


def test_decode_never_inflates_more_than_the_table_says():
    import zlib

    table, tensors, layout = encoded()
    bomb = np.frombuffer(zlib.compress(bytes(200 << 20)), np.uint8)
    with pytest.raises(FormatError, match="does not hold 4 entries"):
        decode(table, {**tensors, patch.GAPS: bomb}, layout)


def test_an_empty_patch_survives_the_round_trip():
    table, tensors = patch.encode({})
    assert decode(table, tensors, {}) == {}
