"""Every graph we make is one that ONNX Runtime's CUDA provider runs by itself, shown without a GPU.

A session on a GPU refuses what would go to the CPU, so one node without a kernel there would leave
a bundle without that backend.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from adapt.clip.model import encoder_tensors
from adapt.methods.heads import HEADS, head_tensors
from export.graphs import encoders
from export.graphs.encoder import deploy_tensors, encoder_graph
from export.graphs.heads import head_graph
from runtime.models import Preprocess
from tests import cuda_libraries
from tests.export.helpers import TOWERS

ROOT = Path(cuda_libraries.__file__).parents[1]
pytestmark = pytest.mark.skipif(
    not cuda_libraries.PROVIDER.is_file() or not all(map(shutil.which, ("gcc", "nm", "readelf"))),
    reason="needs onnxruntime-gpu, gcc and binutils",
)
OPEN = """
import sys
from pathlib import Path
from types import SimpleNamespace
from runtime.backends.ort.backend import OrtBackend
from runtime.errors import BackendError
from runtime.mutex import Mutex
backend = OrtBackend("cpu", None)
device = SimpleNamespace(index=0, stream=12345, whole_gpu=Mutex(nested=True))
backend._kind, backend._device = "cuda", device
wanted = {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0", "user_compute_stream": "12345"}
for path in map(Path, sys.argv[1:]):
    try:
        engine = backend.open(path.read_bytes())
        if not engine._most:
            print(path.stem, "cannot be recorded as a CUDA graph")
        has = engine._session.get_provider_options()["CUDAExecutionProvider"]
        print(*(f"{name}={has[name]}" for name in wanted if has[name] != wanted[name]), end="")
    except BackendError as error:
        print(path.stem, error)
print("opened", len(sys.argv) - 1)
"""
"""In a process of its own: torch has CUDA's real libraries."""


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Return a function that opens graphs on `cuda` and returns what it has to say."""
    folder = tmp_path_factory.mktemp("stub")
    cuda_libraries.make(folder)

    def run(graphs):
        paths = [folder / f"{name}.onnx" for name in graphs]
        for path, graph in zip(paths, graphs.values(), strict=True):
            path.write_bytes(graph)
        done = subprocess.run(
            [sys.executable, "-c", OPEN, *paths],
            env={**os.environ, "LD_LIBRARY_PATH": str(folder), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_every_head_is_run_by_the_gpu_alone(opened):
    graphs = {}
    for kind, make in HEADS.items():
        width = {"width": 9} if kind == "projector-cosine" else {}
        graphs[kind] = head_graph(kind, head_tensors(make(12, 5, **width)))
    assert opened(graphs) == f"opened {len(HEADS)}\n"


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_every_encoder_is_run_by_the_gpu_alone(opened, precision):
    graphs = {}
    for name, make in TOWERS.items():
        tower = make(seed=0)
        form = encoders.get(tower)
        tensors = deploy_tensors(form, encoder_tensors(tower), precision)
        graph = encoder_graph(form, tensors, Preprocess(form.size)).SerializeToString()
        graphs[name] = graph
    assert opened(graphs) == f"opened {len(TOWERS)}\n"


def test_a_node_that_only_the_cpu_has_is_found(opened):
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Det", ["x"], ["y"])],
        "g",
        [value("x", TensorProto.FLOAT, [2, 2])],
        [value("y", TensorProto.FLOAT, [])],
    )
    model = helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    assert "assigned to the default CPU EP" in opened({"det": model.SerializeToString()})
