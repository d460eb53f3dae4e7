"""The builder's failures: one clear error with the failing node, and nothing left running."""

from __future__ import annotations

import signal
import threading

import numpy as np
import onnx
import pytest

from runtime.backends.trt.builder import build
from runtime.backends.trt.library import library
from runtime.backends.trt.profile import PROFILES
from runtime.errors import BackendError, FormatError
from tests.rtx import NEEDS_RTX, ctrl_c
from tests.runtime.conftest import DIM, head_graph

pytestmark = NEEDS_RTX
ORIN = PROFILES["orin"]


def test_a_node_that_the_library_has_not_is_named_with_the_remedy():
    graph = head_graph().replace(b"Gemm", b"Gemn")
    with pytest.raises(BackendError) as error:
        build(graph, ORIN, target="sm86")
    text = str(error.value)
    assert text.startswith(f"{library()} cannot read the graph: node") and "(Gemn)" in text
    assert text.endswith("export the bundle again") and "\n" not in text


def test_uint8_pixels_that_are_not_cast_first_are_named():
    value, kind = onnx.helper.make_tensor_value_info, onnx.TensorProto
    nodes = [
        onnx.helper.make_node(
            "Transpose", ["pixels"], ["moved"], "to the front", perm=[0, 3, 1, 2]
        ),
        onnx.helper.make_node("Cast", ["moved"], ["features"], to=kind.FLOAT),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "g",
        [value("pixels", kind.UINT8, ["batch", 8, 8, 3])],
        [value("features", kind.FLOAT, ["batch", 3, 8, 8])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    with pytest.raises(BackendError, match=r"node 'to the front' \(Transpose\): .*UInt8"):
        build(model.SerializeToString(), ORIN, target="sm86")


@pytest.mark.parametrize("graph", [b"", b"\xff" * 40, b"\x0a" * 9, head_graph()[:-40]])
def test_bytes_that_are_no_graph_are_refused(graph):
    with pytest.raises(BackendError, match="cannot"):
        build(graph, ORIN, target="sm86")


def test_a_free_axis_of_an_unknown_name_is_refused():
    with pytest.raises(FormatError, match="an axis 'klasses'"):
        build(head_graph().replace(b"classes", b"klasses"), ORIN, target="sm86")


def test_values_that_do_not_fit_their_input_are_refused():
    with pytest.raises(FormatError, match="its input 'weight'"):
        build(head_graph(), ORIN, target="sm86", baked={"weight": np.ones((3, DIM - 1), "f4")})


def test_progress_is_told_and_an_interrupt_ends_the_build():
    progress = []
    build(head_graph(), ORIN, target="sm86", on_progress=lambda *step: progress.append(step))
    dones = [done for _, done, _ in progress]
    assert dones == sorted(dones) and dones[-1] <= progress[-1][2]

    def interrupt(*step):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(head_graph(), ORIN, target="sm86", on_progress=interrupt)
    assert build(head_graph(), ORIN, target="sm86").plan, "the library goes on working"


def test_ctrl_c_is_not_lost_in_the_librarys_logger(capfd):
    dones = []
    with ctrl_c(), pytest.raises(KeyboardInterrupt):
        build(head_graph(), ORIN, target="sm86", on_progress=lambda *step: dones.append(step))
    assert all(done < total for _, done, total in dones), "it ended before it was done"
    assert "Exception caught" not in "".join(capfd.readouterr())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_applications_own_handler_of_ctrl_c_is_left_alone():
    seen = []
    former = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        with ctrl_c():
            assert build(head_graph(), ORIN, target="sm86").plan and seen
    finally:
        signal.signal(signal.SIGINT, former)


def test_an_engine_can_be_built_in_any_thread():
    built = []
    thread = threading.Thread(target=lambda: built.append(build(head_graph(), ORIN, target="sm86")))
    thread.start()
    thread.join()
    assert built[0].plan


def test_constants_are_in_the_plan_and_no_input():
    values = np.arange(5000 * DIM, dtype=np.float32).reshape(5000, DIM)
    free, baked = (
        build(head_graph(), ORIN, target="sm86", baked=b) for b in (None, {"weight": values})
    )
    assert [t.name for t in free.tensors] == ["features", "weight", "logits"]
    assert [str(t) for t in baked.tensors] == [
        f"features float32[-1, {DIM}]",
        "logits float32[-1, 5000]",
    ]
    assert len(baked.plan) > values.nbytes and values[4000:4100].tobytes() in baked.plan


def test_a_build_without_a_gpu_and_a_target_says_so():
    with pytest.raises(BackendError, match=r"this machine's GPU: .*CUDA.*--target"):
        build(head_graph(), ORIN)
