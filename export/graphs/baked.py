"""Join the encoder and head of a task into one graph, for engines with constant weights."""

from __future__ import annotations

import onnx

from export.graphs.plain import join
from runtime.backends.trt.graphs import EngineGraph, TensorSpec
from runtime.bundles.bundle import Bundle
from runtime.bundles.constants import constants
from runtime.bundles.entries import TaskEntry
from runtime.storage.files import sha256


def baked_graph(bundle: Bundle, task: str) -> EngineGraph:
    """Return the graph and values of a task's engine; the graph itself holds no weights.

    Args:
        bundle: Bundle to read.
        task: Id of one of its tasks.

    Raises:
        TaskError: The bundle has no such task.
        FormatError: The bundle is damaged.
    """
    entry, content = bundle.entry(task), bundle.task(task, bundle.layout())
    graph = joined_graph(bundle, entry).SerializeToString(deterministic=True)
    heads = {f"head.{name}": array for name, array in content.head_tensors.items()}
    side = bundle.manifest.encoder(entry).size
    tensors = (
        TensorSpec("pixels", True, "uint8", (-1, side, side, 3)),
        TensorSpec("logits", False, "float32", (-1, entry.classes)),
    )
    values = {**constants(bundle, content), **heads}
    return EngineGraph(f"baked-{task}", graph, sha256(graph), tensors, entry, values)


def joined_graph(bundle: Bundle, entry: TaskEntry) -> onnx.ModelProto:
    """Return a task's weight-free graph from pixels to logits; the head's inputs are `head.<name>`.

    Raises:
        FormatError: The bundle is damaged.
    """
    encoder, head = bundle.manifest.encoder(entry), bundle.manifest.head(entry)
    return join(
        onnx.load_from_string(bundle.graph(encoder.graph)),
        onnx.load_from_string(bundle.graph(head.graph)),
    )
