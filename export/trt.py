"""`uda-export trt`: a bundle, and the TensorRT engines of it where they can be built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from export.console import export_and_show, source_options, task_options
from runtime.commands.build import PROFILE, TARGET, build_and_show, render, split
from runtime.commands.options import ENGINES
from runtime.errors import BackendError, ConfigError

_TORCH = "torch-tensorrt"


@click.command()
@task_options
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder of the bundle to write; called after the first task if not given.",
)
@PROFILE
@TARGET
@ENGINES
@click.option(
    "--baked",
    is_flag=True,
    help="Also build one engine per task with constant weights, from pixels to logits: the fastest "
    "form of one task; and write OUT-<task>.onnx.",
)
@click.option(
    "--compiler",
    type=click.Choice(["tensorrt", _TORCH]),
    default="tensorrt",
    show_default=True,
    help=f"What makes the engines of --baked; {_TORCH} needs that package and a GPU.",
)
@source_options
def trt(
    out: Path | None,
    profile: str,
    targets: str | None,
    engines: Path | None,
    baked: bool,
    compiler: str,
    **selection: Any,
) -> None:
    """Write a bundle as `uda-export onnx` does, and build its TensorRT engines.

    Engines fit one library version and GPU. Where there is no GPU and no --target, the bundle is
    written alone, and `uda-runtime build` on the device builds them from it.
    """
    from runtime.bundles.bundle import Bundle
    from runtime.engines import profile as profiles
    from runtime.engines.sets import check_targets
    from runtime.engines.store import store_of

    chosen, wanted = profiles.load(profile), split(targets)
    if compiler == _TORCH and not baked:
        raise ConfigError(f"--compiler {_TORCH} makes engines of --baked; pass that as well")
    if compiler == _TORCH:
        from export.torch_tensorrt import check_compiler

        check_compiler(wanted)
    reason = ""
    try:
        check_targets(wanted)
    except BackendError as error:
        if wanted:  # what was asked for by name is not left out quietly
            raise
        reason = str(error)
    place = out or Path(f"{selection['tasks'][0].partition('=')[0]}.bundle")
    export_and_show(place, baked=baked, **selection)
    bundle = Bundle.open(place)
    if reason:
        click.echo(f"no engines: {reason}\non the device: uda-runtime build {place.name}")
        return
    build_and_show(bundle, chosen, wanted, engines)
    if compiler == _TORCH:
        from export.torch_tensorrt import build_baked

        store = store_of(bundle.path, engines)
        paths = selection["artifacts"], selection["pretrained"]
        click.echo("\n" + render(build_baked(bundle, store, chosen, *paths)))
    elif baked:
        from export.baked import baked_part

        parts = (baked_part(bundle, task) for task in bundle.tasks)
        build_and_show(bundle, chosen, wanted, engines, parts)
