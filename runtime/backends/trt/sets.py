"""Build all engines of a bundle, for this machine's GPU or for other generations."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runtime.backends.base import Inputs
from runtime.backends.names import gpu_of
from runtime.backends.trt.build import BuildResult, build_engine, platforms
from runtime.backends.trt.default_profile import default_profile
from runtime.backends.trt.device import platform_of
from runtime.backends.trt.engine_file import EngineFile, Platform
from runtime.backends.trt.graphs import EngineGraph, check_profile, graphs_of
from runtime.backends.trt.library import library
from runtime.backends.trt.profile import Profile
from runtime.backends.trt.store import FOLDER, EngineStore, store_of
from runtime.bundles.bundle import Bundle
from runtime.console import ProgressCallback
from runtime.errors import BackendError, ConfigError

if TYPE_CHECKING:
    from runtime.cuda.device import CudaDevice


def build_all(
    bundle: Bundle,
    engines: str | os.PathLike[str] | None,
    profile: Profile | None,
    targets: Sequence[str] = (),
    *,
    device: str | None = None,
    graphs: Iterable[EngineGraph] | None = None,
    on_progress: ProgressCallback = lambda what, done, total: None,
) -> Iterator[BuildResult]:
    """Build the engines of a bundle that are not there yet, and yield each when it is in place.

    At the end, engines in the bundle of graphs, values and tasks that it had before are removed.

    Args:
        bundle: Bundle to build engines of.
        engines: Folder of the engines; None for the bundle's own.
        profile: Batches and class counts; None keeps those of the engines that are there.
        targets: GPU generations, as `sm86`; none means a GPU of this machine.
        device: GPU to build for, such as `cuda:1`; None for the first. Not with targets.
        graphs: Graphs to build; None for those of the bundle, without weights.
        on_progress: Progress callback.

    Raises:
        BackendError: The library is missing, or cannot build for a target, or there is no such GPU
            and no target; or an engine cannot be built or failed its test.
        ConfigError: The profile does not allow for a task, or is not given and the engines that are
            there have several; or there are targets and a device, or the folder has no name.
        FormatError: The bundle is damaged.
        StorageError: An engine cannot be written.
    """
    store = store_of(bundle.path, engines)
    store.clean()
    if profile is not None:
        check_profile(bundle, profile)
    with ExitStack() as stack:
        gpu, machine, reason = _gpu(stack, targets, device)
        chosen = platforms(targets, machine, reason)
        profiles = {each: profile or default_profile(bundle, store, each) for each in chosen}
        for each_profile in profiles.values():
            check_profile(bundle, each_profile)
        made: dict[tuple[str, str], str] = {}
        for graph in graphs_of(bundle) if graphs is None else graphs:
            for platform in chosen:
                row = build_engine(
                    graph,
                    store,
                    profiles[platform],
                    platform,
                    test=_test_on(gpu, machine, platform, bundle, graph),
                    on_progress=_named(f"{graph.stem} for {platform.generation}", on_progress),
                )
                recipe = row.engine.recipe
                if recipe.weights is not None:
                    made[row.engine.stem, recipe.platform.slug] = recipe.content
                yield row if row.engine.tested else replace(row, untested=_why(machine, reason))
    if store.folder == bundle.path / FOLDER:  # another folder may be several bundles'
        _sweep(bundle, store, made)


def _sweep(bundle: Bundle, store: EngineStore, made: Mapping[tuple[str, str], str]) -> None:
    """Remove engines of graphs, values and tasks that a bundle has no more.

    Args:
        bundle: Bundle whose engines these are.
        store: Its own folder.
        made: Contents of the present engines with constants, by stem and platform.
    """
    manifest = bundle.manifest
    digests = {ref.sha256 for ref in manifest.graphs()}
    tasks = {entry.id for entry in (*manifest.tasks, *manifest.former)}

    def outdated(engine: EngineFile) -> bool:
        own = engine.recipe
        if own.weights is None:
            return own.graph not in digests
        if engine.stem.partition("-")[2] not in {"base", *tasks}:
            return True  # constants of a task that is gone
        return made.get((engine.stem, own.platform.slug), own.content) != own.content

    store.sweep(outdated)


def check_targets(targets: Sequence[str], device: str | None = None) -> None:
    """Check that engines can be built here; the arguments are those of `build_all`.

    Raises:
        BackendError: The library is missing, or cannot build for a target, or there is no such GPU
            and no target.
        ConfigError: There are targets and a device.
    """
    with ExitStack() as stack:
        _, machine, reason = _gpu(stack, targets, device)
        platforms(targets, machine, reason)


def _gpu(
    stack: ExitStack, targets: Sequence[str], device: str | None
) -> tuple[CudaDevice | None, Platform | None, str]:
    """Return a GPU with its platform, or the reason why there is none."""
    from runtime.cuda.device import CudaDevice

    if targets and device is not None:
        raise ConfigError(
            f"--device {device} builds for that GPU of this machine, --target "
            f"{','.join(targets)} for any of these generations; leave one of them out"
        )
    index = gpu_of(device or "cuda", "engines are built")
    library()  # without one, the GPU does not matter
    try:
        gpu = stack.enter_context(closing(CudaDevice(index)))
    except BackendError as error:
        if device is not None:
            raise
        return None, None, str(error)
    return gpu, platform_of(gpu), ""


def _why(machine: Platform | None, reason: str) -> str:
    """Return the reason why an engine was not tested."""
    if machine is None:
        return reason.partition("; ")[0]  # what to do about it is for those who want a GPU
    return f"the GPU here is {machine.gpu} ({machine.generation})"


def _named(what: str, on_progress: ProgressCallback) -> ProgressCallback:
    """Return a progress callback that names the engine instead of its builder's phase."""
    return lambda phase, done, total: on_progress(what, done, total)


def _test_on(
    gpu: CudaDevice | None,
    machine: Platform | None,
    platform: Platform,
    bundle: Bundle,
    graph: EngineGraph,
) -> _Test | None:
    """Return the self-test of an engine, if this machine's GPU is one that it is for."""
    if gpu is None or machine is None or not platform.runs_on(machine):
        return None
    gpu.activate()  # the library builds for the calling thread's current one
    return _Test(gpu, bundle, graph)


class _Test:
    """Runs a new engine over what its bundle has for it."""

    def __init__(self, device: CudaDevice, bundle: Bundle, graph: EngineGraph) -> None:
        self._device, self._bundle, self._graph = device, bundle, graph

    def __call__(self, engine: EngineFile, plan: bytes) -> None:
        from runtime.backends.trt.self_test import self_test
        from runtime.cuda.tensors import Tensors

        arrays: dict[str, Any] = {}
        if self._graph.entry is not None:
            task = self._bundle.read(self._graph.entry, self._bundle.layout())
            arrays |= {**task.head_tensors, **task.tokens}
        if self._graph.baked is None and "pixels" in {tensor.name for tensor in engine.tensors}:
            arrays |= self._bundle.weights().views()
        wanted = {tensor.name for tensor in engine.tensors}
        placed = Tensors(self._device, {n: a for n, a in arrays.items() if n in wanted})
        try:
            inputs: Inputs = placed.handles
            self_test(self._device, engine, plan, inputs)
        finally:
            placed.close()
