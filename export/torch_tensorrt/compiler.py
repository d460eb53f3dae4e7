"""Compile PyTorch's own graph of a task to a plan with Torch-TensorRT; needs a GPU."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import torch

from export.torch_tensorrt.deployed import Deployed, exported
from runtime.backends.trt.library import collected_messages, library
from runtime.backends.trt.profile import Profile
from runtime.errors import BackendError

NAME = "torch-tensorrt"
RELEASE = "2.14"
"""The release for the PyTorch that we require. Older ones cannot name an engine's outputs."""
HINT = "pip install '.[torch-tensorrt]', or leave --compiler out"
OPTIONS: dict[str, Any] = {
    "output_binding_names": "logits",  # the input's name is that of the module's argument
    "disable_tf32": True,  # it has the mantissa of fp16, which rounds a residual away
    "immutable_weights": True,  # without the flag REFIT, see `runtime.backends.trt.library`
    "cache_built_engines": False,  # that cache is a pickle, in a folder that others may write to
    "reuse_cached_engines": False,
}
"""Options of the compiler, which ignores unknown names silently."""


def check_compiler(targets: Sequence[str]) -> Any:
    """Return Torch-TensorRT if it can be used here.

    Raises:
        BackendError: It is not installed, is another release or does not import; there is no GPU;
            or `targets` names other GPUs.
    """
    if targets:
        raise BackendError(f"{NAME} builds for the GPU of its machine; leave --target out")
    try:
        version = metadata.version(NAME)
    except metadata.PackageNotFoundError as error:
        raise BackendError(
            f"--compiler {NAME} needs that package, which is not installed; run: {HINT}"
        ) from error
    if version.split(".")[:2] != RELEASE.split("."):
        raise BackendError(
            f"found {NAME} {version}, expected {RELEASE}, which fits PyTorch "
            f"{torch.__version__}; run: {HINT}"
        )
    if not torch.cuda.is_available():
        raise BackendError(
            f"--compiler {NAME} needs a GPU that PyTorch can use, found none; leave --compiler "
            "out to build with TensorRT alone"
        )
    library()  # first: the compiler puts something of its own in the place of TensorRT's module
    # What it says of a failure, traceback and all, is in our error.
    logging.getLogger("torch_tensorrt").setLevel(logging.CRITICAL)
    try:
        return import_module("torch_tensorrt")
    except Exception as error:  # of many kinds, where its libraries do not fit those that are here
        raise BackendError(f"cannot import {NAME} {version}: {_line(error)}; {HINT}") from error


def compiled(compiler: Any, model: Deployed, profile: Profile, timing: Path) -> bytes:
    """Return a plan, from `pixels` to `logits`.

    Args:
        compiler: Module of Torch-TensorRT.
        model: Network on the CPU, where its graph is the same on every machine.
        profile: Batches that the plan takes.
        timing: File of the timing cache; the compiler's default is shared by all users.

    Raises:
        BackendError: The compiler fails.
    """
    batch, size = profile.batch, model.size
    most = max(batch.max, 2)  # the engine would fix an axis of one length
    with collected_messages() as messages:
        try:
            pixels = compiler.Input(
                min_shape=(batch.min, size, size, 3),
                opt_shape=(batch.opt, size, size, 3),
                max_shape=(most, size, size, 3),
                dtype=torch.uint8,
                name="pixels",
            )
            plan = compiler.dynamo.convert_exported_program_to_serialized_trt_engine(
                exported(model, most),
                arg_inputs=[pixels],
                timing_cache_path=str(timing),
                **OPTIONS,
            )
        except Exception as error:  # of any kind
            reasons = [_line(reason) for reason in (*messages.problems[:1], error)]
            raise BackendError(
                f"{NAME} {compiler.__version__} failed: {' | '.join(reasons)}; leave --compiler "
                "out to build with TensorRT alone"
            ) from error
    return bytes(plan)


def _line(reason: object) -> str:
    return " ".join((str(reason) or repr(reason)).split())[:400]
