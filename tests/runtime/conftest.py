"""A tiny bundle whose answers NumPy can compute: mean colour -> two layers -> logits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from runtime import bundle
from runtime.digest import tensors_sha256
from runtime.files import sha256
from runtime.patch import SparseTensor, merge
from runtime.spec import BaseModel, Preprocess, TaskInfo
from runtime.task import Task

SIZE, DIM, WIDTH = 16, 6, 300


def _graph(nodes, inputs, outputs, initializers=()):
    graph = helper.make_graph(nodes, "g", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def encoder_graph() -> bytes:
    value = helper.make_tensor_value_info
    return _graph(
        [
            helper.make_node("Cast", ["pixels"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["f", "axes"], ["m"], keepdims=0),
            helper.make_node("MatMul", ["m", "first.weight"], ["h"]),
            helper.make_node("Add", ["h", "first.bias"], ["hb"]),
            helper.make_node("Relu", ["hb"], ["r"]),
            helper.make_node("MatMul", ["r", "second.weight"], ["features"]),
        ],
        [
            value("pixels", TensorProto.UINT8, ["batch", SIZE, SIZE, 3]),
            value("first.weight", TensorProto.FLOAT, [3, WIDTH]),
            value("first.bias", TensorProto.FLOAT, [WIDTH]),
            value("second.weight", TensorProto.FLOAT, [WIDTH, DIM]),
        ],
        [value("features", TensorProto.FLOAT, ["batch", DIM])],
        [helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2])],
    )


def head_graph() -> bytes:
    value = helper.make_tensor_value_info
    return _graph(
        [
            helper.make_node("Gemm", ["features", "weight"], ["logits"], transB=1),
        ],
        [
            value("features", TensorProto.FLOAT, ["batch", DIM]),
            value("weight", TensorProto.FLOAT, ["classes", DIM]),
        ],
        [value("logits", TensorProto.FLOAT, ["batch", "classes"])],
    )


@dataclass
class World:
    """The parts of a bundle and what it must answer."""

    path: Path
    base: dict
    tasks: dict
    parts: dict

    def logits(self, task: str | None, pixels: np.ndarray, head: str | None = None) -> np.ndarray:
        """Compute in NumPy what the engines must return; task None is the bare base."""
        patch = {} if task is None else self.tasks[task].patch
        w = merge(self.base, patch)
        mean = pixels.astype(np.float32).mean((1, 2))
        features = np.maximum(mean @ w["first.weight"] + w["first.bias"], 0) @ w["second.weight"]
        return features @ self.tasks[head or task].head_tensors["weight"].T


def _make_world(path: Path, tasks: int = 3, seed: int = 0) -> World:
    rng = np.random.default_rng(seed)
    shapes = {"first.weight": (3, WIDTH), "first.bias": (WIDTH,), "second.weight": (WIDTH, DIM)}
    base = {name: rng.standard_normal(s).astype(np.float32) for name, s in shapes.items()}
    identity, head = tensors_sha256(base), head_graph()
    made = {}
    for number in range(tasks):
        patch = {}
        for name in ("first.weight", "second.weight")[: 1 + number % 2]:
            count = int(rng.integers(1, 200))
            where = np.sort(rng.choice(base[name].size, count, replace=False)).astype(np.uint32)
            patch[name] = SparseTensor(where, rng.standard_normal(count).astype(np.float32))
        classes = tuple(f"class {i}" for i in range(2 + number))
        info = TaskInfo(
            f"a-{chr(98 + number) if number < 24 else number}",
            "toy",
            "alpha",
            f"target {number}",
            classes,
        )
        weight = rng.standard_normal((len(classes), DIM)).astype(np.float32)
        made[info.id] = Task(info, "cmkd", identity, sha256(head), {"weight": weight}, patch, {})
    parts = {
        "base": BaseModel("toy", "none", identity),
        "precision": "fp32",
        "preprocess": Preprocess(SIZE),
        "encoder": encoder_graph(),
        "tensors": base,
        "heads": [head],
        "tasks": list(made.values()),
        "report": {},
    }
    bundle.write(path, **parts)
    return World(path, base, made, parts)


@pytest.fixture
def make_world(tmp_path: Path):
    """Return a function that writes a bundle below the test's folder."""
    return lambda name, **kwargs: _make_world(tmp_path / name, **kwargs)


@pytest.fixture
def world(make_world) -> World:
    return make_world("toy.bundle")


@pytest.fixture
def frame() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
