"""Plain ONNX files for other people's tools: constant weights, one task, pixels to logits."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from export.graph import Arrays, bake
from export.verify import Engine
from runtime import patch
from runtime.files import write_bytes
from runtime.spec import Preprocess
from runtime.task import Task


def write_plain(
    path: Path, graph: onnx.ModelProto, tensors: Arrays, task: Task, preprocess: Preprocess
) -> None:
    """Write one task as an ONNX file that needs nothing of ours.

    Its metadata hold JSON under `task`, `classes` (in the order of the logits) and `preprocess`
    (how a frame becomes `pixels`; mean and std are applied in the graph).

    Args:
        path: The file.
        graph: From `pixels` to `logits`, without weights; the head's have the prefix `head.`.
        tensors: The base's deploy tensors.
        task: Patch, head tensors and class names.
        preprocess: How a frame becomes pixels.

    Raises:
        BaseModelError: The weights do not fit into one file.
        StorageError: The file cannot be written.
    """
    heads = {f"head.{name}": array for name, array in task.head_tensors.items()}
    facts = {
        "task": {k: v for k, v in asdict(task.info).items() if k != "classes"},
        "classes": task.info.classes,
        "preprocess": asdict(preprocess),
    }
    model = bake(graph, {**patch.merge(tensors, task.patch), **heads}, facts)
    write_bytes(path, model.SerializeToString(deterministic=True))


def plain_engine(path: Path) -> Engine:
    """Return a plain file as an engine, opened by ONNX Runtime as anybody would."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it has no float16 kernels for the CPU and says so node by node
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def engine(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = session.run(["logits"], {"pixels": pixels})[0]
        return logits

    return engine
