"""Engines of `--baked` through Torch-TensorRT: PyTorch's own graph of a task, on a GPU machine.

An extra: `pip install '.[torch-tensorrt]'`. The engine takes the place that TensorRT's own would
have, so that whatever reads the one reads the other. It is not made from a graph of the bundle,
hence it is compared with PyTorch itself before it is put there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib import import_module, metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from adapt.merge import Network
from adapt.store import find
from export.baked import baked_part
from export.deployed import Deployed, exported
from export.facts import Facts
from export.images import DEFAULT_LIMIT, Folders
from export.sources import Source, load_base
from export.verify import Comparison, Progress, Proof
from runtime.bundles.bundle import Bundle
from runtime.engines.build import Row
from runtime.engines.file import EngineFile, Platform, Recipe, engine_file
from runtime.engines.parts import Part, check
from runtime.engines.profile import Profile
from runtime.engines.store import FOLDER, EngineStore
from runtime.errors import BackendError, VerifyError
from runtime.storage.digest import tensors_sha256
from runtime.trt.build import Built, Options
from runtime.trt.device import platform_of, runtime_on
from runtime.trt.library import library, said
from runtime.trt.tensors import engine_tensors

if TYPE_CHECKING:
    from runtime.cuda.device import CudaDevice

_NAME = "torch-tensorrt"
_RELEASE = "2.14"
"""Each release fits one of PyTorch, this one ours. Older ones cannot name an engine's outputs."""
_REMEDY = "pip install '.[torch-tensorrt]', or leave --compiler out"
OPTIONS: dict[str, Any] = {
    "output_binding_names": "logits",  # the input's name is that of the module's argument
    "disable_tf32": True,  # it has the mantissa of fp16, which rounds a residual away
    "immutable_weights": True,  # without the flag REFIT, see `runtime.trt.library`
    "cache_built_engines": False,  # that cache is a pickle, in a folder that others may write to
    "reuse_cached_engines": False,
}
"""What the compiler is told; it takes names that it does not know without a word."""


@dataclass(frozen=True)
class Made:
    """What became of one task."""

    row: Row
    comparison: Comparison | None
    """With PyTorch; None if the engine was there already."""

    @property
    def verdict(self) -> str:
        """The comparison in a line, for people."""
        found = self.comparison
        if found is None:
            return f"{self.row.engine.stem}: kept, compared with PyTorch when it was built"
        return (
            f"{self.row.engine.stem}: agrees with PyTorch on {found.agreement:.2%} of "
            f"{found.images} images, largest logit difference {found.max_difference:.1e} of "
            f"{found.spread:.3g}"
        )


def check_compiler(targets: Sequence[str]) -> Any:
    """Return Torch-TensorRT if it can be used here.

    Raises:
        BackendError: It is not installed, or another release, or broken; there is no GPU; or
            engines for others are wanted.
    """
    if targets:
        raise BackendError(f"{_NAME} builds for the GPU of its machine; leave --target out")
    try:
        version = metadata.version(_NAME)
    except metadata.PackageNotFoundError as error:
        raise BackendError(
            f"--compiler {_NAME} needs that package, which is not installed; run: {_REMEDY}"
        ) from error
    if version.split(".")[:2] != _RELEASE.split("."):
        raise BackendError(
            f"{_NAME} {version} is here, and needed is {_RELEASE}, which fits this PyTorch, "
            f"{torch.__version__}; run: {_REMEDY}"
        )
    if not torch.cuda.is_available():
        raise BackendError(
            f"--compiler {_NAME} needs a GPU that PyTorch can use, and there is none; leave "
            "--compiler out, which builds with TensorRT alone"
        )
    library()  # first: the compiler puts something of its own in the place of TensorRT's module
    # What it says of a failure, traceback and all, is in our error.
    logging.getLogger("torch_tensorrt").setLevel(logging.CRITICAL)
    try:
        return import_module("torch_tensorrt")
    except Exception as error:  # of many kinds, where its libraries do not fit those that are here
        raise BackendError(f"cannot import {_NAME} {version}: {_line(error)}; {_REMEDY}") from error


def build_baked(
    bundle: Bundle,
    store: EngineStore,
    profile: Profile,
    artifacts: Path,
    *,
    images: Folders,
    limit: int = DEFAULT_LIMIT,
    pretrained: str | None = None,
    progress: Progress = lambda what, done, total: None,
) -> Iterator[Made]:
    """Build one engine per task, compare it with PyTorch, and put it beside the bundle's.

    At the end, a task's engines of values that it had before are removed from the bundle.

    Args:
        bundle: Exported from the artifacts.
        store: Where engines lie.
        profile: Its batches.
        artifacts: Folder with the artifacts.
        images: Where the images to compare on are.
        limit: Images per task, at most.
        pretrained: The base's weights, if they are not where training found them.
        progress: For people.

    Raises:
        BackendError: The compiler cannot be used here, or fails, or the engine fails its test; the
            former engine is still there.
        FormatError: The engine takes or gives something else than the bundle says.
        VerifyError: A task's artifact is not the one the bundle was exported from, or the engine
            does not agree with PyTorch; the former engine is still there.
    """
    compiler = check_compiler(())
    from runtime.cuda.device import CudaDevice

    made: dict[str, str] = {}
    with closing(CudaDevice(0)) as device, TemporaryDirectory(prefix="uda-build.") as folder:
        platform = platform_of(device)
        for name in bundle.tasks:
            part = baked_part(bundle, name)
            recipe = recipe_of(part, platform, profile, compiler.__version__)
            made[part.stem] = recipe.content
            there = store.current(recipe)
            if there is not None and there.tested:
                yield Made(Row(there, store.path(there), kept=True), None)
                continue
            source = _source(bundle, name, artifacts)
            clip = load_base(source.artifact, pretrained)
            spec, precision = bundle.preprocess(name), bundle.manifest.precision
            model = Deployed(Network.of(clip, source.artifact), spec, precision)
            progress(f"{part.stem}: {_NAME}", 0, 1)
            start = perf_counter()
            plan = compiled(compiler, model, spec.size, profile, Path(folder) / "timing.cache")
            built = _read(device, part, plan, perf_counter() - start)
            engine = engine_file(part.stem, recipe, built, tested=True)
            pictures = images.sample(source.artifact, limit)
            proof = Proof(clip, source.artifact, pictures, precision, progress)
            comparison = _test(device, engine, plan, proof)
            store.install(engine, plan)
            yield Made(Row(engine, store.path(engine), kept=False), comparison)
    if store.folder == bundle.path / FOLDER:  # another folder may be several bundles'

        def outdated(engine: EngineFile) -> bool:
            own = engine.recipe
            same = own.platform.place == platform.place
            return same and made.get(engine.stem, own.content) != own.content

        store.sweep(outdated)


def recipe_of(part: Part, platform: Platform, profile: Profile, version: str) -> Recipe:
    """Return what an engine is made of: what TensorRT's own is made of, by another compiler.

    Args:
        part: A task's graph with its values.
        platform: This machine.
        profile: Its batches.
        version: The compiler's.
    """
    options = Options(compiler=f"{_NAME} {version}")
    return Recipe(part.sha256, tensors_sha256(part.baked or {}), platform, profile, options)


def compiled(compiler: Any, model: Deployed, size: int, profile: Profile, timing: Path) -> bytes:
    """Return a plan, from `pixels` to `logits`.

    Args:
        compiler: Torch-TensorRT.
        model: On the CPU: there it is the same graph on every machine, and takes no GPU memory.
        size: Height and width of the images S.
        profile: Its batches.
        timing: The compiler's timing cache; its own place for it is everybody's.

    Raises:
        BackendError: The compiler fails.
    """
    batch = profile.batch
    most = max(batch.max, 2)  # an axis of one length only would be none in the engine
    with said() as messages:
        try:
            pixels = compiler.Input(
                min_shape=(batch.min, size, size, 3),
                opt_shape=(batch.opt, size, size, 3),
                max_shape=(most, size, size, 3),
                dtype=torch.uint8,
                name="pixels",
            )
            plan = compiler.dynamo.convert_exported_program_to_serialized_trt_engine(
                exported(model, size, most),
                arg_inputs=[pixels],
                timing_cache_path=str(timing),
                **OPTIONS,
            )
        except Exception as error:  # whatever its many parts raise
            reasons = [*messages.problems[:1], _line(error)]
            raise BackendError(
                f"{_NAME} {compiler.__version__} failed: {' | '.join(reasons)}; leave --compiler "
                "out, which builds with TensorRT alone"
            ) from error
    return bytes(plan)


def _source(bundle: Bundle, name: str, artifacts: Path) -> Source:
    """Return the artifact that a task was exported from."""
    task = bundle.task(name, bundle.layout())
    facts = Facts.of(task)
    source = Source.read(find(artifacts, name, task.info.dataset, facts.variant))
    if source.sha256 != facts.artifact:
        raise VerifyError(
            f"task '{name}' was exported from another artifact than the one in '{artifacts}'; pass "
            "the right folder with --artifacts"
        )
    return source


def _read(device: CudaDevice, part: Part, plan: bytes, seconds: float) -> Built:
    """Return a plan with what it takes and gives, after checking that it is the bundle's."""
    engine = runtime_on(device).deserialize_cuda_engine(plan)
    if engine is None:
        raise BackendError(f"{_NAME} made an engine that {library()} cannot open here; {_REMEDY}")
    tensors = engine_tensors(engine)
    check(part, tensors)
    return Built(plan, tensors, seconds, None)


def _test(device: CudaDevice, engine: EngineFile, plan: bytes, proof: Proof) -> Comparison:
    """Return how a new engine compares with PyTorch, after its self-test."""
    from runtime.engines.self_test import self_test
    from runtime.trt.engine import TrtEngine

    self_test(device, engine, plan, {})
    opened = TrtEngine(device, runtime_on(device), plan, engine.tensors, engine.recipe.profile)

    def infer(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return opened.run({"pixels": pixels})

    with closing(opened):
        return proof.check(infer, _NAME)


def _line(error: Exception) -> str:
    return " ".join((str(error) or repr(error)).split())[:400]
