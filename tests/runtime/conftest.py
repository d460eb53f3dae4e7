"""A tiny bundle whose answers NumPy can compute: mean colour -> two layers -> logits."""

from __future__ import annotations

import contextlib
import ctypes
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from runtime import backends, strategies
from runtime.backends.trt.store import EngineStore, store_of
from runtime.bundles import bundle
from runtime.bundles.entries import CLASSES
from runtime.bundles.graphs import EncoderGraph, HeadGraph
from runtime.bundles.task import Task, encode_task
from runtime.models import BaseModel, Precision, Preprocess, TaskInfo
from runtime.patch import SparseTensor, merge
from runtime.storage.digest import tensors_sha256
from runtime.storage.files import sha256
from tests.runtime.pools import Failing, FailingStrategy

SIZE, DIM, WIDTH = 16, 6, 300
TOKENS = {"prompts.0": (2, WIDTH), "prompts.1": (2, DIM)}


def _graph(nodes, inputs, outputs, initializers=()):
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node(kind, given, [made], **more) for kind, given, made, more in nodes],
        "g",
        [value(name, kind, shape) for name, kind, shape in inputs],
        [value(name, TensorProto.FLOAT, shape) for name, shape in outputs],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def encoder_graph(tokens: bool = False) -> bytes:
    """Return the toy encoder; the one with tokens adds their sums behind its two layers."""
    kept = {"keepdims": 0}
    sums = [
        ("ReduceSum", ["prompts.0", "first"], "sum.0", kept),
        ("ReduceSum", ["prompts.1", "first"], "sum.1", kept),
        ("Add", ["hb", "sum.0"], "hidden", {}),
        ("Add", ["out", "sum.1"], "features", {}),
    ]
    nodes = [
        ("Cast", ["pixels"], "f", {"to": TensorProto.FLOAT}),
        ("ReduceMean", ["f", "axes"], "m", kept),
        ("MatMul", ["m", "first.weight"], "h", {}),
        ("Add", ["h", "first.bias"], "hb", {}),
        *(sums[:3] if tokens else []),
        ("Relu", ["hidden" if tokens else "hb"], "r", {}),
        ("MatMul", ["r", "second.weight"], "out" if tokens else "features", {}),
        *(sums[3:] if tokens else []),
    ]
    shapes = {"first.weight": [3, WIDTH], "first.bias": [WIDTH], "second.weight": [WIDTH, DIM]}
    shapes |= {name: list(shape) for name, shape in TOKENS.items()} if tokens else {}
    return _graph(
        nodes,
        [
            ("pixels", TensorProto.UINT8, ["batch", SIZE, SIZE, 3]),
            *((name, TensorProto.FLOAT, shape) for name, shape in shapes.items()),
        ],
        [("features", ["batch", DIM])],
        [
            helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]),
            *([helper.make_tensor("first", TensorProto.INT64, [1], [0])] if tokens else []),
        ],
    )


def head(kind: str, bias: bool = False, known: bool = True) -> HeadGraph:
    """Return a toy head; one that is not known does not say what it takes."""
    shapes = {"weight": (CLASSES, DIM), **({"bias": (CLASSES,)} if bias else {})}
    return HeadGraph(kind, head_graph(bias), shapes if known else None)


def head_graph(bias: bool = False) -> bytes:
    shapes = {"weight": ["classes", DIM], **({"bias": ["classes"]} if bias else {})}
    return _graph(
        [("Gemm", ["features", *shapes], "logits", {"transB": 1})],
        [
            ("features", TensorProto.FLOAT, ["batch", DIM]),
            *((name, TensorProto.FLOAT, shape) for name, shape in shapes.items()),
        ],
        [("logits", ["batch", "classes"])],
    )


def on_grid(values: np.ndarray) -> np.ndarray:
    """Return float32 values cut to bfloat16 ones."""
    return (values.view(np.uint32) & 0xFFFF0000).view(np.float32)


@dataclass
class World:
    """The parts of a bundle and what it must answer."""

    path: Path
    base: dict
    tasks: dict
    parts: dict

    def logits(self, task: str, pixels: np.ndarray) -> np.ndarray:
        """Compute in NumPy what the engines must return."""
        own = self.tasks[task]
        features = self.features(task, pixels)
        return features @ own.head_tensors["weight"].T + own.head_tensors.get("bias", 0)

    def features(self, task: str, pixels: np.ndarray) -> np.ndarray:
        """Compute in NumPy what the encoder must return."""
        own = self.tasks[task]
        w = merge(self.base, own.patch)
        first, second = (own.tokens.get(name, np.zeros((1, 1))).sum(0) for name in TOKENS)
        mean = pixels.astype(np.float32).mean((1, 2))
        hidden = np.maximum(mean @ w["first.weight"] + w["first.bias"] + first, 0)
        return hidden @ w["second.weight"] + second


def _make_world(
    path: Path, tasks: int = 3, seed: int = 0, mixed: bool = False, precision: Precision = "fp32"
) -> World:
    """Write a bundle; a mixed one has two encoders, two heads and two ways to resize."""
    low = on_grid if precision == "bf16" else lambda array: array
    rng = np.random.default_rng(seed)
    shapes = {"first.weight": (3, WIDTH), "first.bias": (WIDTH,), "second.weight": (WIDTH, DIM)}
    base = {name: rng.standard_normal(s).astype(np.float32) for name, s in shapes.items()}
    base = {name: low(array) if array.ndim > 1 else array for name, array in base.items()}
    identity = tensors_sha256(base)
    spec = Preprocess(SIZE)
    encoders = [
        EncoderGraph(encoder_graph(), spec),
        EncoderGraph(encoder_graph(True), spec, TOKENS),
    ]
    heads = [head("linear"), head("affine", True)]
    made = {}
    for number in range(tasks):
        prompted, affine = mixed and number % 2 == 1, mixed and number % 4 > 1
        patch = {}
        for name in () if prompted else ("first.weight", "second.weight")[: 1 + number % 2]:
            count = int(rng.integers(1, 200))
            where = np.sort(rng.choice(base[name].size, count, replace=False)).astype(np.uint32)
            patch[name] = SparseTensor(where, low(rng.standard_normal(count).astype(np.float32)))
        classes = tuple(f"class {i}" for i in range(2 + number))
        info = TaskInfo(
            f"a-{chr(98 + number) if number < 24 else number}",
            "toy",
            "alpha",
            f"target {number}",
            classes,
        )
        values = {"weight": rng.standard_normal((len(classes), DIM)).astype(np.float32)}
        if affine:
            values["bias"] = rng.standard_normal(len(classes)).astype(np.float32)
        made[info.id] = Task(
            info=info,
            method="ekda" if prompted else "cmkd",
            resize="crop" if prompted else "squash",
            interpolation="bicubic" if prompted else "bilinear",
            base_sha256=identity,
            encoder=sha256(encoders[prompted].graph),
            tokens={
                name: low(30 * rng.standard_normal(shape).astype(np.float32))
                for name, shape in (TOKENS if prompted else {}).items()
            },
            head=sha256(heads[affine].graph),
            head_tensors=values,
            patch=patch,
            record={},
        )
    parts = {
        "base": BaseModel("toy", "none", identity),
        "precision": precision,
        "encoders": encoders[: 1 + mixed],
        "tensors": base,
        "heads": heads[: 1 + mixed],
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
def store(world) -> EngineStore:
    """The world's engines, of which there are none yet."""
    return store_of(world.path, None)


@pytest.fixture
def mixed(make_world) -> World:
    """Five tasks: two encoders, two heads, two ways to resize."""
    return make_world("mixed.bundle", tasks=5, mixed=True)


@pytest.fixture
def frame() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture
def write_task(tmp_path):
    """Return a function that writes a task to a file outside of any bundle."""

    def put(task, name="new.safetensors"):
        (tmp_path / name).write_bytes(encode_task(task))
        return tmp_path / name

    return put


@pytest.fixture
def no_driver() -> None:
    """For tests of what is said where there is no GPU."""
    with contextlib.suppress(OSError):
        ctypes.CDLL("libcuda.so.1")
        pytest.skip("this machine has a driver")


@pytest.fixture
def failing(monkeypatch):
    """Let pools open their sessions on failing devices; return these."""
    monkeypatch.setattr(Failing, "made", [])
    monkeypatch.setattr(backends, "load", lambda name, *arguments: Failing(*arguments))
    monkeypatch.setattr(strategies, "load", lambda name, *parts: FailingStrategy.open(*parts))
    return Failing.made
