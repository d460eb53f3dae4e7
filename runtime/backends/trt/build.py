"""Build, test and store the engine of one graph."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.backends.trt.builder import Options, build
from runtime.backends.trt.engine_file import EngineFile, Platform, Recipe, engine_file
from runtime.backends.trt.graphs import EngineGraph, check
from runtime.backends.trt.library import library
from runtime.backends.trt.profile import Profile
from runtime.backends.trt.store import EngineStore
from runtime.console import ProgressCallback
from runtime.errors import BackendError, FormatError
from runtime.storage.trusted import read_code
from runtime.storage.writing import write_bytes

_MAX_TIMING = 1 << 28
"""Largest size of a timing cache in bytes."""


@dataclass(frozen=True)
class BuildResult:
    """Result of building one engine."""

    engine: EngineFile
    path: Path
    reused: bool
    """Whether a matching engine existed already, so that nothing was built."""
    untested: str = ""
    """Why its self-test was not run; empty if it was."""
    previous_profile: str = ""
    """Profile of the engine that it replaced, if that was another."""


def build_engine(
    graph: EngineGraph,
    store: EngineStore,
    profile: Profile,
    platform: Platform,
    *,
    test: Callable[[EngineFile, bytes], None] | None = None,
    on_progress: ProgressCallback = lambda phase, done, total: None,
) -> BuildResult:
    """Build an engine, unless the one that is there is the same; test it, then put it there.

    Args:
        graph: Graph to build.
        store: Store to put the engine into.
        profile: Lengths of the free axes.
        platform: Platform to build for: a generation of GPUs, or this machine's GPU.
        test: Function that runs the engine and raises if it fails; None where it cannot run.
        on_progress: Progress callback.

    Raises:
        BackendError: It cannot be built, or failed its test; the former engine is still there.
        FormatError: The graph takes other inputs than the bundle has.
        StorageError: It cannot be written; known before it is built.
    """
    recipe = Recipe(graph.sha256, graph.weights(), platform, profile, Options())
    there = store.current(recipe)
    if there is not None and (there.tested or test is None):
        return BuildResult(there, store.path(there), reused=True)
    store.reserve()
    target = platform.generation if platform.gpu is None else None
    # A timing cache holds what was measured on one GPU; TensorRT-RTX measures nothing.
    cache = store.timing(platform) if target is None and not library().targets else None
    built = build(
        graph.onnx,
        profile,
        baked=graph.baked,
        target=target,
        timing=None if cache is None else _timing(cache),
        on_progress=on_progress,
    )
    check(graph, built.tensors)
    if cache is not None and built.timing:
        write_bytes(cache, built.timing, code=True)
    engine = engine_file(graph.stem, recipe, built, tested=test is not None)
    if test is not None:
        test(engine, built.plan)
    changed, old = "", store.previous(engine)
    if old is not None and old.recipe.profile != profile:
        changed = old.recipe.profile.name
    store.install(engine, built.plan)
    return BuildResult(engine, store.path(engine), reused=False, previous_profile=changed)


def platforms(targets: Sequence[str], machine: Platform | None, reason: str) -> list[Platform]:
    """Return the platforms to build for.

    Args:
        targets: GPU generations, as `sm86`; none means this machine's GPU.
        machine: Platform of this machine; None if it has no GPU.
        reason: Reason why it has none, with a hint.

    Raises:
        BackendError: The library has no such target, or there is no GPU and no target.
    """
    found = library()
    for target in targets:
        if target not in found.targets:
            has = ", ".join(found.targets) or "the GPU of its machine"
            hint = "build on the machine that runs the engines, without --target"
            if f"sm{target}" in found.targets:
                hint = f"did you mean sm{target}?"
            raise BackendError(
                f"{found} cannot build for '{target[:20]}'; available: {has}; {hint}"
            )
    if targets:
        return [
            Platform(found.name, found.version, target, gpu=None, cuda=None, driver=None)
            for target in dict.fromkeys(targets)
        ]
    if machine is None:
        other = f", or name its GPU with --target: {', '.join(found.targets)}"
        raise BackendError(
            f"{found} found no GPU to build for: {reason}, or build on the machine that runs the "
            f"engines{other if found.targets else ''}"
        )
    return [machine]


def _timing(path: Path) -> bytes:
    """Return the timing cache; empty if it cannot be read, or others could have written it."""
    with contextlib.suppress(FormatError, OSError):
        return read_code(path, _MAX_TIMING, lambda: "it is measured again")
    return b""
