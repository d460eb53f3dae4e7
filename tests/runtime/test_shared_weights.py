import os

import numpy as np
import pytest
from safetensors.numpy import save_file

from runtime.bundles.shared_weights import SharedWeights
from runtime.bundles.weights_file import read_weights
from runtime.errors import BackendError, FormatError
from runtime.memory.form import PLAIN, Form
from runtime.patch import SparseTensor
from runtime.storage.digest import tensors_sha256

FORMS = {"blocked": Form(block=8), "bf16": Form(bf16=True)}


@pytest.fixture
def base(tmp_path):
    """Return path, size, digest and tensors of a base of two types with filters.

    The matrices are bfloat16 values.
    """
    rng = np.random.default_rng(0)
    tensors = {
        "conv": rng.standard_normal((32, 16, 3, 3)).astype(np.float32),
        "first": rng.standard_normal((16, 3, 2, 2)).astype(np.float32),
        "matrix": rng.standard_normal((300, 70)).astype(np.float32),
        "half": rng.standard_normal(5000).astype(np.float16),
        "row": rng.standard_normal(7).astype(np.float32),
    }
    for name in ("conv", "first", "matrix"):
        tensors[name].view(np.uint32)[...] &= 0xFFFF0000
    path = tmp_path / "base.safetensors"
    save_file(tensors, path)
    return path, path.stat().st_size, tensors_sha256(tensors), tensors


@pytest.fixture(params=FORMS)
def form(request):
    return FORMS[request.param]


@pytest.fixture(params=["memory", "file"])
def shared(base, form, request, monkeypatch):
    if request.param == "file":
        monkeypatch.delattr(os, "memfd_create", raising=False)
    content = SharedWeights(*base[:3], form)
    yield content
    content.close()


def test_each_maps_what_reading_the_file_in_that_form_gives(base, form, shared):
    path, size, sha256, tensors = base
    want = read_weights(path, size, sha256, form=form)
    for _ in range(2):
        found = shared.weights()
        assert found.layout == want.layout and found.form == form
        for name, view in want.views().items():
            assert found[name].dtype == view.dtype
            np.testing.assert_array_equal(found[name], view)
            np.testing.assert_array_equal(found.original(name), tensors[name])
        assert found.sha256() == want.sha256() == sha256


def test_what_one_changes_no_other_sees(base, shared):
    first, second = shared.weights(), shared.weights()
    where = np.arange(0, 21_000, 7, dtype=np.uint32)
    patch = {"matrix": SparseTensor(where, np.full(where.size, 9, np.float32))}
    ready = first.prepare(patch)
    first.apply(ready)
    assert (first.original("matrix").reshape(-1)[where] == 9).all()
    np.testing.assert_array_equal(second.original("matrix"), base[3]["matrix"])
    np.testing.assert_array_equal(shared.weights().original("matrix"), base[3]["matrix"])
    second.apply(ready)  # a patch that the other one prepared
    np.testing.assert_array_equal(first["matrix"], second["matrix"])
    first.apply(())
    np.testing.assert_array_equal(first.original("matrix"), base[3]["matrix"])
    assert (second.original("matrix").reshape(-1)[where] == 9).all()


def test_weights_outlive_the_shared_ones_which_close_twice(base, shared):
    weights = shared.weights()
    shared.close()
    shared.close()
    np.testing.assert_array_equal(weights.original("matrix"), base[3]["matrix"])
    with pytest.raises(BackendError, match="closed"):
        shared.weights()


def test_a_damaged_file_is_refused_and_nothing_stays_open(base):
    path, size, sha256, _ = base
    before = len(os.listdir("/proc/self/fd"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(FormatError, match="altered"):
        SharedWeights(path, size, sha256, PLAIN)
    with pytest.raises(FormatError, match="expected"):
        SharedWeights(path, size + 1, sha256, PLAIN)
    with pytest.raises(FormatError, match="No such file or directory; check the path"):
        SharedWeights(path.parent / "no", size, sha256, PLAIN)
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(FormatError, match="make no whole blocks"):
        SharedWeights(path, size, sha256, Form(64))
    assert len(os.listdir("/proc/self/fd")) == before
