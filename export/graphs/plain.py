"""Write a task as a plain ONNX file with constant weights, from pixels to logits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper

from export.graphs.builder import Arrays
from runtime import patch
from runtime.bundles.task import Task
from runtime.errors import BaseModelError
from runtime.models import Preprocess
from runtime.storage.writing import write_bytes

_MAX_FILE = 2**31 - 2**20  # protobuf's limit, less room for the nodes


def write_plain(
    path: Path, graph: onnx.ModelProto, tensors: Arrays, task: Task, preprocess: Preprocess
) -> None:
    """Write one task as an ONNX file that any ONNX tool can open.

    Its metadata holds JSON under `task`, `classes` (in the order of the logits) and `preprocess`
    (how a frame becomes `pixels`; mean and std are applied in the graph).

    Args:
        path: File to write.
        graph: Weight-free graph from `pixels` to `logits`; head inputs have the prefix `head.`.
        tensors: Deploy tensors of the base.
        task: Task with its patch, tokens, head tensors and class names.
        preprocess: How a frame becomes pixels.

    Raises:
        BaseModelError: The weights do not fit into one file.
        StorageError: The file cannot be written.
    """
    heads = {f"head.{name}": array for name, array in task.head_tensors.items()}
    metadata = {
        "task": {k: v for k, v in asdict(task.info).items() if k != "classes"},
        "classes": task.info.classes,
        "preprocess": preprocess.as_dict(),
    }
    model = bake(graph, {**patch.merge(tensors, task.patch), **task.tokens, **heads}, metadata)
    write_bytes(path, model.SerializeToString(deterministic=True))


def join(encoder: onnx.ModelProto, head: onnx.ModelProto) -> onnx.ModelProto:
    """Return one graph from pixels to logits; the head's tensors get the prefix `head.`."""
    joined = onnx.ModelProto()
    joined.CopyFrom(encoder)
    weights = [i.name for i in head.graph.input if i.name != "features"]
    renamed = {name: f"head.{name}" for name in weights}
    for node in head.graph.node:
        copy = joined.graph.node.add()
        copy.CopyFrom(node)
        copy.input[:] = [renamed.get(name, name) for name in node.input]
    for info in head.graph.input:
        if info.name in renamed:
            copy = joined.graph.input.add()
            copy.CopyFrom(info)
            copy.name = renamed[info.name]
    joined.graph.initializer.extend(head.graph.initializer)
    del joined.graph.output[:]
    joined.graph.output.extend(head.graph.output)
    return joined


def bake(model: onnx.ModelProto, tensors: Arrays, metadata: Mapping[str, Any]) -> onnx.ModelProto:
    """Return a plain model: weights as constants, `metadata` as JSON in its metadata.

    Args:
        model: Weight-free graph.
        tensors: Values of all inputs that are weights.
        metadata: JSON-serialisable values by name, for example the class names.

    Raises:
        BaseModelError: The weights do not fit into one ONNX file.
    """
    size = sum(array.nbytes for array in tensors.values())
    if size > _MAX_FILE:
        raise BaseModelError(
            f"{size / 2**30:.1f} GiB of weights do not fit into one ONNX file of at most 2 GiB; "
            "deploy the bundle instead, or export with --precision fp16"
        )
    baked = onnx.ModelProto()
    baked.CopyFrom(model)
    left = [info for info in baked.graph.input if info.name not in tensors]
    del baked.graph.input[:]
    baked.graph.input.extend(left)
    symbols = _symbols(model, tensors)
    for info in baked.graph.output:
        for dim in info.type.tensor_type.shape.dim:
            if dim.dim_param in symbols:
                dim.dim_value = symbols[dim.dim_param]
    for name, array in tensors.items():
        baked.graph.initializer.append(numpy_helper.from_array(array, name))
    for key, value in metadata.items():
        baked.metadata_props.add(key=key, value=json.dumps(value, ensure_ascii=False))
    return baked


def _symbols(model: onnx.ModelProto, tensors: Arrays) -> dict[str, int]:
    """Return the lengths of the weights' named axes in `tensors`."""
    return {
        dim.dim_param: length
        for info in model.graph.input
        if info.name in tensors
        for dim, length in zip(
            info.type.tensor_type.shape.dim, tensors[info.name].shape, strict=True
        )
        if dim.dim_param
    }
