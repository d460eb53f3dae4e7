"""Ways to run one full-size model, to be timed against each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray

from adapt.methods.heads import TaskHead
from benchmarks._models import CLASSES, Model
from benchmarks._random import random_tower
from runtime.backends.openvino.library import core
from runtime.models import Precision
from runtime.sessions.session import Session

Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Pixels (N, 224, 224, 3) to logits (N, K)."""
BARE = "ONNX Runtime, bare"
"""What ratios are taken to: the strongest peer without a switch."""


@contextmanager
def session(backend: str, model: Model, threads: int) -> Iterator[Predict]:
    """Open a session; what is timed is all of `predict_batch`."""
    with Session.open(model.bundle, backend=backend, threads=threads) as opened:
        opened.switch(model.tasks[0])
        yield lambda pixels: np.stack([p.logits for p in opened.predict_batch(list(pixels))])


def bare_onnxruntime(baked: Path, threads: int) -> Predict:
    """Open a graph with constant weights, which ONNX Runtime lays out as it likes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    opened = onnxruntime.InferenceSession(baked, options, providers=["CPUExecutionProvider"])
    return lambda pixels: opened.run(["logits"], {"pixels": pixels})[0]


def bare_openvino(baked: Path, threads: int, precision: Precision) -> Predict:
    """Open the same graph with OpenVINO."""
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
    }
    compiled = core().compile_model(baked, "CPU", settings)
    request = compiled.create_infer_request()
    return lambda pixels: request.infer({"pixels": pixels})["logits"].copy()


def pytorch(name: str, precision: Precision, compiled: bool) -> Predict:
    """Return open_clip's tower and a head in inference mode."""
    torch.manual_seed(0)
    tower = random_tower(name)
    dim = tower(torch.zeros(1, 3, 224, 224)).shape[1]
    network = torch.nn.Sequential(tower, TaskHead(dim, CLASSES)).eval()
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    network = network.to(kind)
    if compiled:
        torch.compiler.reset()  # else the eighth model is run as it is, without a word
    run = torch.compile(network) if compiled else network

    def predict(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            images = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(kind)
            logits: NDArray[np.float32] = run(((images / 255) - 0.45) / 0.27).float().numpy()
        return logits

    return predict
