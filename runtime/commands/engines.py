"""Tables of engines, for `uda-runtime info` and `uda-runtime build`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.console import bytes_text, echo, table
from runtime.errors import FormatError
from runtime.text import printable

if TYPE_CHECKING:
    from runtime.backends.trt.engine_file import EngineFile
    from runtime.bundles.bundle import Bundle


def name_of(engine: EngineFile) -> str:
    """Return a name of an engine: its kind, and the digest of its graph and values."""
    return f"{engine.stem} {engine.recipe.content[:8]}"


def gpu_of(engine: EngineFile) -> str:
    """Return the GPU and the generation that an engine runs on."""
    platform = engine.recipe.platform
    return f"{platform.gpu or 'any'} {platform.generation}"


def self_test_of(engine: EngineFile) -> str:
    """Return the result of an engine's self-test."""
    return "passed" if engine.tested else "not run"


def show_engines(bundle: Bundle, folder: str | None, check: bool) -> None:
    """Print the engines of a bundle; nothing if it has none and no folder was named.

    Args:
        bundle: Bundle to list the engines of.
        folder: Folder of the engines; None for the one in the bundle.
        check: Whether to check the digests of the engines.

    Raises:
        FormatError: The folder cannot be read, or something there is damaged; the rest is shown.
    """
    from runtime.backends.trt.listing import listed

    path, found = listed(bundle.path, folder, check=check)
    engines = [(each.engine, not each.problem) for each in found if each.engine is not None]
    if not engines and (found or folder is not None):
        echo(f"\nengines   none in {path}")
    if engines:
        _show(bundle, path, engines, check)
    problems = [each for each in found if each.problem]
    if problems:
        echo("")
    for each in problems:
        if each.damaged:
            echo(f"damaged   {printable(each.problem)}")
        else:
            echo(f"other     '{printable(each.name)}' is not an engine")
    damaged = sum(each.damaged for each in problems)
    if check and damaged:
        raise FormatError(
            f"{damaged} of {len(found)} engines in '{path}' are damaged, see above; build "
            "them again"
        )


def _show(
    bundle: Bundle, folder: Path, engines: Sequence[tuple[EngineFile, bool]], check: bool
) -> None:
    from runtime.backends.trt.device import platform_here

    here = platform_here()
    values = _values(bundle, [engine for engine, _ in engines]) if check else None
    graphs = {ref.sha256 for ref in bundle.manifest.graphs()}
    columns: dict[str, list[str]] = {}
    for engine, whole in engines:
        own = engine.recipe
        cells = {
            "engine": name_of(engine),
            "size": bytes_text(engine.plan.bytes),
            "library": f"{own.platform.library} {own.platform.version}",
            "GPU": gpu_of(engine),
            "profile": own.profile.name,
            "self-test": self_test_of(engine),
        }
        if here is not None:
            cells["runs here"] = "yes" if own.platform.runs_on(here) else "no"
        if check:
            cells["digest"] = "right" if whole else "wrong"
        # Those of `uda-export trt --baked` are of graphs that no bundle holds.
        baked = own.weights is not None and not engine.stem.startswith("encoder-")
        stray = not baked and own.graph not in graphs
        cells["graph"] = "not of this bundle" if stray else ""
        if values is not None and own.weights is not None and not baked and not stray:
            current = own.content in values
            cells["graph"] = "" if current else "of no task's values as they are now"
        for name, cell in cells.items():
            columns.setdefault(name, []).append(cell)
    shown = {name: cells for name, cells in columns.items() if any(cells)}
    machine = f", and here is {here}" if here else ""
    echo(f"\nengines   {len(engines)} in {folder}{machine}\n")
    echo(table(list(shown), list(zip(*shown.values(), strict=True))))
    if not all(engine.tested for engine, _ in engines):
        echo("\nnot run: there was no such GPU where they were built; a build on one tests them")


def _values(bundle: Bundle, engines: Sequence[EngineFile]) -> set[str]:
    """Return `Recipe.content` of every encoder with a task's values; reads the base for each."""
    from runtime.backends.trt.engine_file import content_of
    from runtime.backends.trt.graphs import baked_graphs

    if not any(engine.stem.startswith("encoder-") for engine in engines):
        return set()
    return {content_of(graph.sha256, graph.weights()) for graph in baked_graphs(bundle)}
