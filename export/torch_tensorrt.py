"""Engines of `--baked` through Torch-TensorRT: PyTorch's own graph of a task, on a GPU machine.

An extra: `pip install '.[torch-tensorrt]'`. Jetson Orin has no such wheels after version 2.8.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from adapt.data.transforms import normalise
from adapt.merge import Network
from adapt.store import find
from export.facts import Facts
from export.sources import Source, load_base
from runtime.bundles.bundle import Bundle
from runtime.engines.build import Row
from runtime.engines.file import Recipe, engine_file
from runtime.engines.profile import Profile
from runtime.engines.store import EngineStore
from runtime.errors import BackendError, VerifyError
from runtime.storage.files import sha256
from runtime.trt.build import Built, Options
from runtime.trt.device import platform_of, runtime_on
from runtime.trt.tensors import engine_tensors


def check_compiler(targets: Sequence[str]) -> Any:
    """Return Torch-TensorRT if it can be used here.

    Raises:
        BackendError: It is not installed, there is no GPU, or engines for others are wanted.
    """
    if targets:
        raise BackendError("torch-tensorrt builds for the GPU of its machine; leave --target out")
    try:
        compiler = import_module("torch_tensorrt")
    except ModuleNotFoundError as error:
        raise BackendError(
            f"--compiler torch-tensorrt needs '{error.name}', which is not installed; run: "
            "pip install '.[torch-tensorrt]', or leave --compiler out"
        ) from error
    if not torch.cuda.is_available():
        raise BackendError(
            "--compiler torch-tensorrt needs a GPU that PyTorch can use, and there is none; leave "
            "--compiler out, which builds with TensorRT alone"
        )
    return compiler


def build_baked(
    bundle: Bundle, store: EngineStore, profile: Profile, artifacts: Path, pretrained: str | None
) -> list[Row]:
    """Build one engine per task and put it beside the bundle's.

    Args:
        bundle: Exported from the artifacts.
        store: Where engines lie.
        profile: Its batches.
        artifacts: Folder with the artifacts.
        pretrained: The base's weights, if they are not where training found them.

    Raises:
        BackendError: The compiler cannot be used here, or fails, or the engine fails its test.
        VerifyError: A task's artifact is not the one the bundle was exported from.
    """
    compiler = check_compiler(())
    from runtime.cuda.device import CudaDevice
    from runtime.engines.self_test import self_test

    rows = []
    with closing(CudaDevice(0)) as device:
        for name in bundle.tasks:
            task = bundle.task(name, bundle.layout())
            facts = Facts.of(task)
            source = Source.read(find(artifacts, name, task.info.dataset, facts.variant))
            if source.sha256 != facts.artifact:
                raise VerifyError(
                    f"task '{name}' was exported from another artifact than the one in "
                    f"'{artifacts}'; pass the right folder with --artifacts"
                )
            clip = load_base(source.artifact, pretrained)
            half = bundle.manifest.precision == "fp16"
            model = _Deployed(Network.of(clip, source.artifact), half).cuda().eval()
            size = bundle.preprocess(name).size
            plan, seconds = _compile(compiler, model, size, profile)
            engine = runtime_on(device).deserialize_cuda_engine(plan)
            if engine is None:
                raise BackendError("torch-tensorrt made an engine that TensorRT cannot open here")
            options = Options(compiler=f"torch-tensorrt {compiler.__version__}")
            graph, weights = sha256(b"torch-tensorrt"), source.sha256
            recipe = Recipe(graph, weights, platform_of(device), profile, options)
            built = Built(plan, engine_tensors(engine), seconds, None)
            made = engine_file(f"baked-{name}", recipe, built, tested=True)
            self_test(device, made, plan, {})
            store.install(made, plan)
            rows.append(Row(made, store.path(made), kept=False))
    return rows


class _Deployed(nn.Module):
    """A task's network from pixels, at the precision of its bundle."""

    def __init__(self, network: Network, half: bool) -> None:
        super().__init__()
        self.encoder: nn.Module = network.encoder.half() if half else network.encoder
        self.head, self._half = network.head, half

    def forward(self, pixels: Tensor) -> Tensor:
        images = normalise(pixels.to(torch.float32))
        features = self.encoder(images.half() if self._half else images)
        logits: Tensor = self.head(features.float())
        return logits


def _compile(compiler: Any, model: nn.Module, size: int, profile: Profile) -> tuple[bytes, float]:
    start, batch = time.perf_counter(), profile.batch
    pixels = compiler.Input(
        min_shape=(batch.min, size, size, 3),
        opt_shape=(batch.opt, size, size, 3),
        max_shape=(batch.max, size, size, 3),
        dtype=torch.uint8,
        name="pixels",
    )
    try:
        plan = compiler.convert_method_to_trt_engine(
            model,
            "forward",
            ir="dynamo",
            arg_inputs=[pixels],
            use_explicit_typing=True,
            disable_tf32=True,
        )
    except Exception as error:  # whatever its many parts raise
        raise BackendError(
            f"torch-tensorrt {compiler.__version__} failed: {error}; leave --compiler out"
        ) from error
    return bytes(plan), time.perf_counter() - start
