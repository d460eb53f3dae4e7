"""`uda-runtime build`: build the TensorRT engines of a bundle."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runtime.backends.trt.profile import DEFAULT, PROFILES
from runtime.commands.engines import gpu_of, name_of, self_test_of
from runtime.commands.options import BUNDLE, ENGINES, STRATEGY
from runtime.commands.progress import step_bar
from runtime.console import bytes_text, echo, table
from runtime.errors import BackendError, ConfigError

if TYPE_CHECKING:
    from runtime.backends.trt.build import BuildResult
    from runtime.backends.trt.graphs import EngineGraph
    from runtime.backends.trt.profile import Profile
    from runtime.bundles.bundle import Bundle

_KNOWN = ", ".join(
    f"{name} (1 to {profile.batch.max} frames at once, best at {profile.batch.opt})"
    for name, profile in PROFILES.items()
)
PROFILE = click.option(
    "--profile",
    help=f"Batches and class counts: {_KNOWN}, or a JSON file; default: that of the "
    f"existing engines, else {DEFAULT}.",
)
TARGET = click.option(
    "--target",
    "targets",
    metavar="SM,...",
    help="GPU generations to build for, such as sm86,sm89, instead of this machine's GPU; "
    "needs TensorRT-RTX, and no GPU.",
)

GPU = click.option(
    "--device",
    metavar="cuda[:N]",
    help="GPU of this machine to build for, such as cuda:1; default: the first. Not with --target.",
)


@click.command(short_help="Build TensorRT engines.")
@BUNDLE
@PROFILE
@TARGET
@GPU
@ENGINES
@STRATEGY
def build(
    bundle: Path,
    profile: str | None,
    targets: str | None,
    device: str | None,
    engines: str | None,
    strategy: str,
) -> None:
    """Build the TensorRT engines of a bundle.

    Engines fit one library version and one GPU, or with TensorRT-RTX one GPU generation. Existing
    engines that fit are kept; an engine is replaced once the new one has passed its self-test.
    --strategy engines builds an encoder with constant weights for each task.
    """
    from runtime.backends.trt import profile as profiles
    from runtime.backends.trt.graphs import baked_graphs
    from runtime.bundles import bundle as bundles

    opened = bundles.Bundle.open(bundle)
    graphs = baked_graphs(opened) if strategy == "engines" else None
    chosen = None if profile is None else profiles.load(profile)
    build_and_show(opened, chosen, split(targets), device, engines, graphs)


def build_and_show(
    bundle: Bundle,
    profile: Profile | None,
    targets: Sequence[str],
    device: str | None,
    engines: str | None,
    graphs: Iterable[EngineGraph] | None = None,
) -> list[BuildResult]:
    """Build the engines of a bundle, with a bar for people; print and return the results.

    Raises:
        UdaError: As `build_all` in `runtime.backends.trt.sets`, or it was interrupted; what was
            built before is in place and shown.
    """
    from runtime.backends.trt.library import library
    from runtime.backends.trt.sets import build_all

    echo(f"library   {library()}")
    rows: list[BuildResult] = []
    try:
        with step_bar() as on_progress:
            rows.extend(
                build_all(
                    bundle,
                    engines,
                    profile,
                    targets,
                    device=device,
                    graphs=graphs,
                    on_progress=on_progress,
                )
            )
    except KeyboardInterrupt as error:
        raise BackendError(
            "interrupted; what was built before is in place, run the same command again to build "
            "the rest"
        ) from error
    finally:
        if rows:
            echo(f"engines   {rows[0].path.parent}\n\n{render(rows)}")
    return rows


def render(rows: Sequence[BuildResult]) -> str:
    """Return build results as a table."""
    header = ("engine", "size", "seconds", "profile", "GPU", "self-test", "")
    cells = []
    for row in rows:
        was = f", was {row.previous_profile}" if row.previous_profile else ""
        cells.append(
            [
                name_of(row.engine),
                bytes_text(row.engine.plan.bytes),
                f"{row.engine.seconds:.1f}",
                row.engine.recipe.profile.name,
                gpu_of(row.engine),
                self_test_of(row.engine),
                "kept" if row.reused else f"built{was}",
            ]
        )
    reasons = dict.fromkeys(row.untested for row in rows if row.untested)
    return table(header, cells) + "".join(f"\n\nnot run: {reason}" for reason in reasons)


def split(targets: str | None) -> list[str]:
    """Return the GPU generations of `--target`; none if it was not given.

    Raises:
        ConfigError: The option names none.
    """
    names = [target.strip() for target in (targets or "").split(",") if target.strip()]
    if targets is not None and not names:
        raise ConfigError(
            f"--target names no GPU generation, found '{targets}'; one looks like sm86, and "
            "without --target engines are built for the GPU of this machine"
        )
    return names
