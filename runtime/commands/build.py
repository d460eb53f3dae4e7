"""`uda-runtime build`: the engines of a bundle, built where they are to run, or for other GPUs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runtime.commands.options import BUNDLE, ENGINES, STRATEGY
from runtime.console import bytes_text, table

if TYPE_CHECKING:
    from runtime.bundles.bundle import Bundle
    from runtime.engines.build import Row
    from runtime.engines.parts import Part
    from runtime.engines.profile import Profile
    from runtime.engines.sets import Told

PROFILE = click.option(
    "--profile",
    default="orin",
    show_default=True,
    help="Batches and class counts: orin, server, or a JSON file, see runtime/engines/profile.py.",
)
TARGET = click.option(
    "--target",
    "targets",
    metavar="SM,...",
    help="Build for these GPU generations, as sm86,sm89, not for the GPU of this machine; "
    "TensorRT-RTX does, and needs no GPU.",
)


@click.command()
@BUNDLE
@PROFILE
@TARGET
@ENGINES
@STRATEGY
def build(
    bundle: Path, profile: str, targets: str | None, engines: Path | None, strategy: str
) -> None:
    """Build the TensorRT engines of a bundle.

    They fit one library version and one GPU, or with TensorRT-RTX one GPU generation. What is there
    and still fits is kept, and an engine is replaced when its successor has passed its test.
    --strategy engines builds an encoder with constant weights for each task.
    """
    from runtime.bundles import bundle as bundles
    from runtime.engines import profile as profiles
    from runtime.engines.parts import baked_parts
    from runtime.errors import BackendError

    if strategy not in ("patch", "engines"):
        raise BackendError(f"unknown strategy '{strategy}'; known are engines, patch")
    opened = bundles.Bundle.open(bundle)
    parts = baked_parts(opened) if strategy == "engines" else None
    build_and_show(opened, profiles.load(profile), split(targets), engines, parts)


def build_and_show(
    bundle: Bundle,
    profile: Profile,
    targets: Sequence[str],
    engines: Path | None,
    parts: Iterable[Part] | None = None,
) -> None:
    """Build the engines of a bundle, with a bar for people, and print what became of each.

    Raises:
        UdaError: As `runtime.engines.sets.build_all`; what was built before is in place and shown.
    """
    from runtime.engines.sets import build_all
    from runtime.engines.store import store_of
    from runtime.trt.library import library

    click.echo(f"library   {library()}")
    rows: list[Row] = []
    try:
        with _bar() as told:
            store = store_of(bundle.path, engines)
            rows.extend(build_all(bundle, store, profile, targets, parts=parts, told=told))
    finally:
        if rows:
            click.echo(f"engines   {rows[0].path.parent}\n\n{render(rows)}")


def render(rows: Sequence[Row]) -> str:
    """Return what became of engines as a table."""
    header = ("engine", "size", "seconds", "profile", "GPU", "self-test", "")
    cells = []
    for row in rows:
        recipe = row.engine.recipe
        gpu = recipe.platform.gpu or "any"
        cells.append(
            [
                f"{row.engine.stem} {recipe.content[:8]}",
                bytes_text(row.engine.plan.bytes),
                f"{row.engine.seconds:.1f}",
                recipe.profile.name,
                f"{gpu} {recipe.platform.generation}",
                "passed" if row.engine.tested else "not run",
                "kept" if row.kept else "built",
            ]
        )
    untested = [row for row in rows if not row.engine.tested]
    note = "\n\nnot run: this machine has no such GPU" if untested else ""
    return table(header, cells) + note


@contextmanager
def _bar() -> Iterator[Told]:
    """Show how far the engine is that is being built; a terminal alone sees it."""
    with click.progressbar(length=100, file=sys.stderr, show_eta=False) as bar:

        def told(what: str, done: int, total: int) -> None:
            bar.label = what
            bar.update(100 * done // max(total, 1) - bar.pos)

        yield told


def split(targets: str | None) -> list[str]:
    """Return the targets of an option."""
    return [target.strip() for target in (targets or "").split(",") if target.strip()]
