"""Turn the tensors of an image tower into deploy tensors and a weight-free graph over them.

The deploy tensors are one function D of a tower's tensors, the same for the base and for a merged
model; a patch is where the two results differ. D renames nothing that it does not change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from adapt.optim.grid import rounded
from export.graphs.builder import Arrays, Graph
from export.graphs.encoders.base import Form
from runtime.errors import BaseModelError
from runtime.models import Precision, Preprocess


def deploy_tensors(
    form: Form, tensors: Mapping[str, NDArray[np.float32]], precision: Precision
) -> Arrays:
    """Return D of a tower's tensors at a precision; values that do not change are shared.

    "fp16" are float16 arrays, "bf16" float32 arrays of bfloat16 values: few processors multiply
    those, so most devices compute in float32 with them.

    Raises:
        BaseModelError: A value is too large for float16.
    """
    deployed = form.deploy(tensors)
    if precision == "fp32":
        return deployed
    result = {}
    for name, array in deployed.items():
        if precision == "bf16" and not form.stays_float32(name):
            array = rounded(array, "bf16")
        elif not form.stays_float32(name):
            largest = float(np.abs(array).max())
            if largest > float(np.finfo(np.float16).max):
                raise BaseModelError(
                    f"'{name}' holds {largest:.3g}, which float16 cannot; export with "
                    "--precision fp32"
                )
            array = array.astype(np.float16)
        result[name] = array
    return result


def deploy_tokens(
    tokens: Mapping[str, NDArray[np.float32]], precision: Precision
) -> dict[str, NDArray[Any]]:
    """Return a task's prompt tokens at a precision, in the order of their names.

    Raises:
        BaseModelError: A value is too large for float16.
    """
    result: dict[str, NDArray[Any]] = {}
    for name in sorted(tokens):
        array = rounded(tokens[name], precision)
        if not bool(np.isfinite(array).all()):
            raise BaseModelError(
                f"tokens '{name}' hold a value that float16 cannot; export with --precision fp32"
            )
        result[name] = array.astype(np.float16) if precision == "fp16" else array
    return result


def encoder_graph(
    form: Form, tensors: Arrays, preprocess: Preprocess, tokens: Arrays | None = None
) -> onnx.ModelProto:
    """Return the graph from `pixels` (batch, S, S, 3) uint8 RGB to `features` (batch, D) float32.

    Args:
        form: Deployable form of the tower.
        tensors: Result of `deploy_tensors`; its values are not read.
        preprocess: Preprocessing of the task; the graph applies its mean and std.
        tokens: Result of `deploy_tokens` for an encoder with prompt tokens; its values are not
            read. The number of tokens is fixed in the graph.

    Raises:
        BaseModelError: The images that `preprocess` makes do not have the tower's size, or the
            tokens do not fit the tower.
    """
    if tokens:
        form.check_tokens({name: array.shape for name, array in tokens.items()})
    g = Graph({**tensors, **(tokens or {})}, "e")
    return _finish(form, g, form.build(g, _image(form, g, preprocess)))


def blocked_graph(form: Form, tensors: Arrays, preprocess: Preprocess) -> onnx.ModelProto | None:
    """Return the same graph for ONNX Runtime on the CPU, or None where it would be no faster.

    Its convolutions (`com.microsoft.nchwc`) read filters in blocks of channels.
    """
    if not form.blockable:
        return None
    g = Graph(tensors, "e", domains=("com.microsoft.nchwc",))
    if g.half:
        return None
    return _finish(form, g, form.build(g, _image(form, g, preprocess), blocked=True))


def _image(form: Form, g: Graph, preprocess: Preprocess) -> str:
    """Add cast, scale, mean and std, in float32, then the cast to the precision of the weights."""
    if preprocess.size != form.size:
        raise BaseModelError(
            f"the task was trained on images of {preprocess.size} pixels, but this base takes "
            f"{form.size}; train it again on this base"
        )
    mean, std = (np.reshape(v, (3, 1, 1)) for v in (preprocess.mean, preprocess.std))
    # TensorRT takes uint8 into a Cast and nowhere else.
    x = g.op("Transpose", g.cast("pixels", np.float32), perm=[0, 3, 1, 2])
    x = g.op("Mul", x, g.constant(1 / (255 * std), np.float32))
    x = g.op("Add", x, g.constant(-mean / std, np.float32))
    return g.cast(x, np.float16) if g.half else x


def _finish(form: Form, g: Graph, features: str) -> onnx.ModelProto:
    features = g.cast(features, np.float32) if g.half else features
    shape: list[int | str] = ["batch", form.size, form.size, 3]
    return g.model(features, ("pixels", np.uint8, shape), ("features", ["batch", form.dim]))
