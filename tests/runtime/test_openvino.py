"""What is OpenVINO's own; the contract of all backends is in `test_backends.py`."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import runtime
from runtime import backends
from runtime.backends.openvino.backend import check_bf16
from runtime.bundles import bundle
from runtime.bundles.bundle import Bundle
from runtime.errors import BackendError, FormatError
from runtime.patch import SparseTensor
from runtime.storage.digest import tensors_sha256
from tests.runtime.contract import BackendContract, Where, random_pixels
from tests.runtime.interrupts import Checker

FILTERS = {name: (4, 4, 1, 1) for name in ("one", "two")}


def convolutions(count: int) -> bytes:
    """Return a graph of convolutions, each with filters that are an input."""
    names = list(FILTERS)[:count]
    values = ["pixels", *(f"after {name}" for name in names)]
    values[-1] = "features"
    nodes = [
        helper.make_node("Conv", [x, name], [y])
        for x, name, y in zip(values[:-1], names, values[1:], strict=True)
    ]
    inputs = [
        helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["batch", 4, 3, 3]),
        *(helper.make_tensor_value_info(n, TensorProto.FLOAT, FILTERS[n]) for n in names),
    ]
    output = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", 4, 3, 3])
    graph = helper.make_graph(nodes, "convolutions", inputs, [output])
    opsets = [helper.make_opsetid("", 18)]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    return model.SerializeToString()


def multiplies_bf16() -> bool:
    """Return whether this processor takes bf16 bundles; one that does not has to say so."""
    try:
        backends.load("openvino", "cpu", 1, precision="bf16")
    except BackendError as error:
        assert "does not multiply bf16" in str(error)
        return False
    return True


@pytest.fixture
def backend():
    return backends.load("openvino", "cpu", 1)


def test_convolutions_with_filters_that_are_inputs_are_refused_with_what_to_do(backend):
    with pytest.raises(BackendError, match="2 such convolutions; pass --strategy engines"):
        backend.open(convolutions(2))


def test_convolutions_with_constant_filters_run(backend):
    rng = np.random.default_rng(0)
    filters = {name: rng.standard_normal(s).astype(np.float32) for name, s in FILTERS.items()}
    engine = backend.open(convolutions(2), baked=filters)
    x = rng.standard_normal((2, 4, 3, 3)).astype(np.float32)
    wanted = np.einsum("oi,bihw->bohw", filters["one"][..., 0, 0], x)
    wanted = np.einsum("oi,bihw->bohw", filters["two"][..., 0, 0], wanted)
    np.testing.assert_allclose(engine.run({"pixels": x}), wanted, rtol=1e-4, atol=1e-5)


def test_the_one_convolution_of_a_transformer_runs(backend):
    engine = backend.open(convolutions(1))
    rng = np.random.default_rng(1)
    x = rng.standard_normal((1, 4, 3, 3)).astype(np.float32)
    filters = rng.standard_normal(FILTERS["one"]).astype(np.float32)
    engine.bind({"one": filters})
    wanted = np.einsum("oi,bihw->bohw", filters[..., 0, 0], x)
    np.testing.assert_allclose(engine.run({"pixels": x}), wanted, rtol=1e-4, atol=1e-5)


def test_frames_that_are_read_only_are_taken(backend, world):
    with runtime.Session.open(world.path, backend="openvino", threads=1) as session:
        session.switch("a-b")
        pixels = random_pixels(2)
        wanted = session.infer(pixels)
        pixels.flags.writeable = False
        np.testing.assert_array_equal(session.infer(pixels), wanted)


def test_an_input_of_another_shape_is_refused(backend):
    engine = backend.open(convolutions(1))
    engine.bind({"one": np.zeros(FILTERS["one"], np.float32)})
    with pytest.raises(BackendError, match="openvino failed"):
        engine.run({"pixels": np.zeros((1, 5, 3, 3), np.float32)})


def test_a_bf16_bundle_is_multiplied_in_bf16_and_other_bundles_are_not(make_world, tmp_path):
    """bfloat16 keeps 8 bits: answers are near those of float32, and not the same."""
    pixels, world = random_pixels(3), make_world("bf16", precision="bf16")
    bundle.write(tmp_path / "fp32", **world.parts | {"precision": "fp32"})
    with runtime.Session.open(tmp_path / "fp32", backend="openvino", threads=1) as session:
        session.switch("a-b")
        exact = session.infer(pixels)
    if not multiplies_bf16():
        return
    with runtime.Session.open(world.path, backend="openvino", threads=1) as session:
        session.switch("a-b")
        found = session.infer(pixels)
    assert not np.array_equal(found, exact)
    np.testing.assert_allclose(found, exact, atol=2**-6 * np.abs(exact).max())


def test_a_processor_without_bf16_is_refused_and_named():
    check_bf16("bf16", ["FP32", "BF16"])
    check_bf16("fp32", ["FP32"])
    with pytest.raises(BackendError, match=r"\(it has FP32, INT8\).* --backend ort"):
        check_bf16("bf16", ["INT8", "FP32"])


def test_a_signal_after_two_sessions_reaches_its_handler(world):
    """In a process of its own: with two cores, it would die of the signal."""
    code = """
import faulthandler, signal, sys, runtime
faulthandler.enable()  # its handlers, as Python's own, run on the thread's stack for signals
heard = []
signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
one, two = (runtime.Session.open(sys.argv[1], backend="openvino", threads=1) for _ in range(2))
one.close()
del one
two.close()
del two
signal.raise_signal(signal.SIGUSR1)
print(len(heard))
"""
    words = [sys.executable, "-c", code, str(world.path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


class TestInBf16(BackendContract):
    """Matrices, patches and tokens of a bf16 bundle are held as bfloat16."""

    @pytest.fixture
    def where(self):
        if not multiplies_bf16():
            pytest.skip("this processor does not multiply bf16")
        near = {"rtol": 2**-6, "atol": 64.0}  # of logits of a size of 1e4
        return Where("openvino", "cpu", lambda path, strategy: None, "bf16", near)

    @pytest.fixture
    def world(self, make_world):
        return make_world("toy.bundle", precision="bf16")

    @pytest.fixture
    def mixed(self, make_world):
        return make_world("mixed.bundle", tasks=5, mixed=True, precision="bf16")

    def test_matrices_are_held_in_two_bytes_and_answer_as_constants_do(self, where, mixed):
        pixels = random_pixels(2)
        with where.session(mixed.path) as patched, where.session(mixed.path, "engines") as baked:
            held = patched._strategy.weights.handles
            types = {name: array.dtype.name for name, array in held.items()}
            assert types.pop("first.bias") == "float32" and {*types.values()} == {"uint16"}
            assert patched.layout == Bundle.open(mixed.path).layout()
            for task in mixed.tasks:
                patched.switch(task)
                baked.switch(task)
                found, wanted = patched.infer(pixels), baked.infer(pixels)
                np.testing.assert_allclose(found, wanted, **where.tolerance)

    def test_sessions_of_a_pool_share_them(self, where, mixed, frame):
        check = Checker(mixed.path, frame, backend="openvino")
        with runtime.SessionPool.open(mixed.path, backend="openvino", threads=1) as pool:
            for _ in range(3):
                for result in pool.predict_many([(frame, task) for task in mixed.tasks]):
                    assert check.same(result)
            for session in pool.sessions:
                check.base(session)

    @pytest.mark.parametrize("odd_in", ["base", "patch", "tokens"])
    def test_values_that_bfloat16_lacks_are_refused(self, where, mixed, tmp_path, odd_in):
        odd, parts, tasks = np.float32(1.001), dict(mixed.parts), dict(mixed.tasks)
        if odd_in == "base":
            tensors = {name: array.copy() for name, array in mixed.base.items()}
            tensors["second.weight"][3, 1] = odd
            parts["tensors"], identity = tensors, tensors_sha256(tensors)
            tasks = {n: replace(task, base_sha256=identity) for n, task in tasks.items()}
        elif odd_in == "patch":
            sparse = SparseTensor(np.array([4], np.uint32), np.array([odd]))
            tasks["a-b"] = replace(tasks["a-b"], patch={"first.weight": sparse})
        else:
            tokens = {name: array + odd for name, array in tasks["a-c"].tokens.items()}
            tasks["a-c"] = replace(tasks["a-c"], tokens=tokens)
        bundle.write(tmp_path / "odd", **parts | {"tasks": [*tasks.values()]})
        what = {"base": "^'second.weight'", "patch": "patch of 'first.weight'", "tokens": "tokens"}
        wanted = f"{what[odd_in]}.* holds .*, expected bfloat16 .* export it again"
        options = {"backend": "openvino", "threads": 1}
        if odd_in == "base":
            for kind in (runtime.Session, runtime.SessionPool):
                with pytest.raises(FormatError, match=wanted):
                    kind.open(tmp_path / "odd", **options)
            return
        with runtime.Session.open(tmp_path / "odd", **options) as session:
            session.switch("a-d")
            with pytest.raises(FormatError, match=wanted):
                session.switch("a-b" if odd_in == "patch" else "a-c")
            assert session.task == "a-d"
            assert session.base_sha256() == session.bundle.manifest.tensors.sha256


def test_threads_that_come_at_once_share_one_core():
    code = (
        "from threading import Barrier, Thread\n"
        "from runtime.backends.openvino import library\n"
        "cores, start = [], Barrier(8)\n"
        "def take():\n    start.wait()\n    cores.append(library.core())\n"
        "threads = [Thread(target=take) for _ in range(8)]\n"
        "[thread.start() for thread in threads]\n"
        "[thread.join() for thread in threads]\n"
        "print(len(cores), len({id(core) for core in cores}))\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["8", "1"]
