"""Build the engines of `--baked` with Torch-TensorRT.

Each has the file name that TensorRT's own would have, so that the same code reads both. It is not
made from a graph of the bundle, so it is compared with PyTorch before it is installed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from adapt.artifacts.merge import Network, load_base
from export.graphs.baked import baked_graph
from export.sources import Source
from export.torch_tensorrt.compiler import HINT, NAME, check_compiler, compiled
from export.torch_tensorrt.deployed import Deployed
from export.verification.comparison import Comparison
from export.verification.images import MAX_IMAGES, ImagePaths
from export.verification.verifier import Verifier
from runtime.backends.trt.build import BuildResult
from runtime.backends.trt.builder import Built, Options
from runtime.backends.trt.device import platform_of, runtime_on
from runtime.backends.trt.engine_file import EngineFile, Platform, Recipe, engine_file
from runtime.backends.trt.graphs import EngineGraph, check
from runtime.backends.trt.library import library
from runtime.backends.trt.profile import Profile
from runtime.backends.trt.store import FOLDER, EngineStore
from runtime.backends.trt.tensors import engine_tensors
from runtime.bundles.bundle import Bundle
from runtime.console import ProgressCallback
from runtime.errors import BackendError
from runtime.storage.writing import scratch_folder

if TYPE_CHECKING:
    from runtime.cuda.device import CudaDevice


@dataclass(frozen=True)
class BuiltEngine:
    """An engine that was built or kept."""

    row: BuildResult
    comparison: Comparison | None
    """Comparison with PyTorch; None if the engine existed already."""

    @property
    def verdict(self) -> str:
        """One line that sums up the comparison."""
        found = self.comparison
        if found is None:
            return f"{self.row.engine.stem}: kept, compared with PyTorch when it was built"
        return (
            f"{self.row.engine.stem}: agrees with PyTorch on {found.agreement:.2%} of "
            f"{found.images} images, largest logit difference {found.max_difference:.1e} of "
            f"{found.spread:.3g}"
        )


def build_baked(
    bundle: Bundle,
    store: EngineStore,
    profile: Profile,
    artifacts: Path,
    *,
    images: ImagePaths,
    max_images: int = MAX_IMAGES,
    pretrained: str | None = None,
    on_progress: ProgressCallback = lambda what, done, total: None,
) -> Iterator[BuiltEngine]:
    """Build one engine per task, compare it with PyTorch, and put it beside the bundle's.

    Engines of a task's earlier values are removed at the end; after an error they are still there.

    Args:
        bundle: Bundle to build for.
        store: Folder of engines.
        profile: Batches that the engines take.
        artifacts: Folder with the artifacts that the bundle was exported from.
        images: Images to compare on.
        max_images: Largest number of images per task.
        pretrained: Weights of the base, if they are not where training found them.
        on_progress: Progress callback.

    Raises:
        StorageError: An engine cannot be written; known before it is built.
        BackendError: The compiler is not usable or fails, or the engine fails its self-test.
        FormatError: The engine's inputs or outputs are not those of the bundle.
        VerifyError: A task was exported from another artifact, or does not agree with PyTorch.
    """
    compiler, precision = check_compiler(()), bundle.manifest.precision
    from runtime.cuda.device import CudaDevice

    made: dict[str, str] = {}
    store.clean()
    with closing(CudaDevice(0)) as device, scratch_folder("uda-build") as folder:
        platform = platform_of(device)
        for name in bundle.tasks:
            graph = baked_graph(bundle, name)
            recipe = recipe_of(graph, platform, profile, compiler.__version__)
            made[graph.stem] = recipe.content
            there = store.current(recipe)
            if there is not None and there.tested:
                yield BuiltEngine(BuildResult(there, store.path(there), reused=True), None)
                continue
            store.reserve()
            artifact = Source.of(bundle.task(name, bundle.layout()), artifacts).artifact
            clip = load_base(artifact, pretrained)
            model = Deployed(Network.of(clip, artifact), bundle.preprocess(name), precision)
            on_progress(f"{graph.stem}: {NAME}", 0, 1)
            built = _build(device, graph, compiler, model, profile, folder / "timing.cache")
            engine = engine_file(graph.stem, recipe, built, tested=True)
            sample = images.sample(artifact, max_images)
            verifier = Verifier(clip, artifact, sample, precision, on_progress)
            comparison = _test(device, engine, built.plan, verifier)
            store.install(engine, built.plan)
            yield BuiltEngine(BuildResult(engine, store.path(engine), reused=False), comparison)
    if store.folder == bundle.path / FOLDER:  # several bundles may share another folder
        _sweep(store, platform, made)


def recipe_of(graph: EngineGraph, platform: Platform, profile: Profile, version: str) -> Recipe:
    """Return the recipe of an engine: that of TensorRT's own, with another compiler.

    Args:
        graph: Graph of a task with its values.
        platform: Platform of this machine.
        profile: Batches that the engine takes.
        version: Version of the compiler.
    """
    options = Options(compiler=f"{NAME} {version}")
    return Recipe(graph.sha256, graph.weights(), platform, profile, options)


def _sweep(store: EngineStore, platform: Platform, made: Mapping[str, str]) -> None:
    """Remove this GPU's engines of values that a task had before; `made` has contents by stem."""

    def outdated(engine: EngineFile) -> bool:
        own = engine.recipe
        same = own.platform.slug == platform.slug
        return same and made.get(engine.stem, own.content) != own.content

    store.sweep(outdated)


def _build(
    device: CudaDevice,
    graph: EngineGraph,
    compiler: Any,
    model: Deployed,
    profile: Profile,
    timing: Path,
) -> Built:
    """Return a plan with its tensors, after checking that they are those of the bundle."""
    start = perf_counter()
    plan = compiled(compiler, model, profile, timing)
    seconds = perf_counter() - start
    engine = runtime_on(device).deserialize_cuda_engine(plan)
    if engine is None:
        raise BackendError(f"{NAME} built an engine that {library()} cannot open; {HINT}")
    tensors = engine_tensors(engine)
    check(graph, tensors)
    return Built(plan, tensors, seconds, None)


def _test(device: CudaDevice, engine: EngineFile, plan: bytes, verifier: Verifier) -> Comparison:
    """Compare a new engine with PyTorch, after its self-test."""
    from runtime.backends.trt.engine import TrtEngine
    from runtime.backends.trt.self_test import self_test

    self_test(device, engine, plan, {})
    opened = TrtEngine(device, runtime_on(device), plan, engine.tensors, engine.recipe.profile)

    def infer(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return opened.run({"pixels": pixels})

    with closing(opened):
        return verifier.check(infer, NAME)
