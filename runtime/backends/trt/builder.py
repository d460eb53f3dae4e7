"""Build a TensorRT plan from an ONNX graph."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from runtime.backends.bake import bake
from runtime.backends.base import Arrays
from runtime.backends.trt.library import Messages, collected_messages, library, logger, started, trt
from runtime.backends.trt.profile import Profile
from runtime.backends.trt.progress import monitor, stoppable
from runtime.backends.trt.tensors import Tensor, network_tensors, shape_of
from runtime.console import ProgressCallback
from runtime.errors import BackendError
from runtime.storage.files import storage_errors
from runtime.storage.writing import scratch_folder

WORKSPACE = 1 << 30
"""Most bytes of GPU memory that a layer may take as workspace; TensorRT's default is all of it."""


@dataclass(frozen=True)
class Options:
    """Build options other than the profile; part of an engine's identity."""

    strongly_typed: bool = True
    """Types are those of the graph: no precision is chosen by the builder."""
    tf32: bool = False
    """TF32 has the mantissa of fp16, which rounds a residual away."""
    compiler: str = ""
    """Compiler that made the network, if it was not parsed from our graph."""


@dataclass(frozen=True, eq=False)
class Built:
    """A plan, with the inputs and outputs that its network was read back to have."""

    plan: bytes
    tensors: tuple[Tensor, ...]
    seconds: float
    timing: bytes | None
    """The timing cache with what this build measured, where there is one."""


def build(
    graph: bytes,
    profile: Profile,
    *,
    baked: Arrays | None = None,
    target: str | None = None,
    timing: bytes | None = None,
    options: Options = Options(),
    on_progress: ProgressCallback = lambda phase, done, total: None,
) -> Built:
    """Build an engine.

    Args:
        graph: ONNX; its free axes are called `batch` and `classes`.
        profile: Lengths of the free axes.
        baked: Values of inputs that become constants.
        target: A GPU generation, as `sm86`; None builds for the GPU of this machine.
        timing: A timing cache of this library on this GPU; one that does not fit is not used.
        options: Build options.
        on_progress: Progress callback.

    Raises:
        BackendError: The library does not start, refuses the graph or cannot build it, or has no
            such target.
        FormatError: The graph is damaged, or has free axes of other names.
        StorageError: There is no room for the values while they are read.
        KeyboardInterrupt: Ctrl-C was pressed; the library is as before.
    """
    start = time.perf_counter()
    where = target or "this machine's GPU"
    with stoppable() as stopped, collected_messages() as messages:
        builder = started(trt.Builder)
        flags = 0
        if options.strongly_typed:
            flags |= 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        network = builder.create_network(flags)
        _parse(graph, baked, network, messages)
        config = builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE)
        if not options.tf32:
            config.clear_flag(trt.BuilderFlag.TF32)
        progress = monitor(on_progress, stopped)  # the configuration does not keep it alive
        config.progress_monitor = progress
        _set_target(config, target)
        _set_profile(builder, network, config, profile)
        tensors = network_tensors(network)
        cache = None if timing is None else _set_timing(config, timing)
        plan = builder.build_serialized_network(network, config)
        if stopped:
            raise stopped[0]
        if plan is None:
            raise messages.failure(
                f"build an engine for {where}",
                "choose other GPUs with --target, or build on the machine that runs it",
            )
        measured = None if cache is None else bytes(memoryview(cache.serialize()))
    return Built(bytes(memoryview(plan)), tensors, time.perf_counter() - start, measured)


def _parse(
    graph: bytes, baked: Arrays | None, network: trt.INetworkDefinition, messages: Messages
) -> None:
    parser = trt.OnnxParser(network, logger())
    with _files(baked or {}) as (folder, files):
        content = bake(graph, baked, files) if baked else graph
        if parser.parse(content, str(folder / "graph.onnx")):
            return
        for i in range(parser.num_errors):
            error = parser.get_error(i)
            kind = error.node_operator()
            where = f"node '{error.node_name() or error.node()}' ({kind}): "
            # The parser knows no node where the model itself is damaged.
            messages.nodes.append((where if kind else "") + str(error.desc()))
        raise messages.failure("read the graph", "export the bundle again")


@contextmanager
def _files(arrays: Arrays) -> Iterator[tuple[Path, dict[str, str]]]:
    """Put values into files, for the parser to read; this takes no second copy in memory."""
    with scratch_folder("uda-build") as folder:
        files = {}
        for number, (tensor, array) in enumerate(arrays.items()):
            files[tensor] = f"w{number}"
            with storage_errors(folder / files[tensor]):
                np.ascontiguousarray(array).tofile(folder / files[tensor])
        yield folder, files


def _set_profile(
    builder: trt.Builder,
    network: trt.INetworkDefinition,
    config: trt.IBuilderConfig,
    profile: Profile,
) -> None:
    made = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        each = network.get_input(index)
        shape = shape_of(each.shape)
        if -1 in shape:
            spans = {
                axis: profile.span(str(each.get_dimension_name(axis)))
                for axis, length in enumerate(shape)
                if length == -1
            }
            least, best, most = (
                trt.Dims(
                    [
                        getattr(spans[axis], bound) if axis in spans else length
                        for axis, length in enumerate(shape)
                    ]
                )
                for bound in ("min", "opt", "max")
            )
            made.set_shape(each.name, least, best, most)
    config.add_optimization_profile(made)


def _set_timing(config: trt.IBuilderConfig, timing: bytes) -> trt.ITimingCache | None:
    """Let a build start from a timing cache, or from an empty one if that does not fit."""
    with collected_messages():  # a cache that does not fit does not explain a later failure
        for content in (timing, b""):
            cache = config.create_timing_cache(content)
            if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
                return cache
    return None


def _set_target(config: trt.IBuilderConfig, target: str | None) -> None:
    """Choose the GPU generation; TensorRT-RTX alone can, and must, where there is no GPU."""
    known = library().targets
    if target is None:
        if known:
            _choose(config, "CURRENT")
        return
    if target not in known:
        has = (
            f"it has {', '.join(known)}" if known else "it builds for the GPU of this machine only"
        )
        raise BackendError(
            f"{library()} cannot build for '{target[:20]}': {has}; build on the machine that "
            "runs it: uda-runtime build BUNDLE"
        )
    _choose(config, target.upper())


def _choose(config: Any, capability: str) -> None:
    """Set the one GPU generation; the names are TensorRT-RTX's alone."""
    config.num_compute_capabilities = 1
    if not config.set_compute_capability(
        library().module.ComputeCapability.__members__[capability], 0
    ):
        raise BackendError(f"{library()} refused the target {capability}; choose another")
