"""`uda-export trt`: write a bundle, and build its TensorRT engines where possible."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from adapt.progress import progress_bar
from export.commands.onnx import export_and_show
from export.commands.options import source_options, task_options
from runtime.commands.build import GPU, PROFILE, TARGET, build_and_show, render, split
from runtime.commands.options import ENGINES
from runtime.console import UserPath, echo
from runtime.errors import BackendError, ConfigError
from runtime.text import quoted

if TYPE_CHECKING:
    from runtime.backends.trt.profile import Profile
    from runtime.backends.trt.store import EngineStore
    from runtime.bundles.bundle import Bundle

_TORCH = "torch-tensorrt"


@click.command(short_help="Write a bundle and its TensorRT engines.")
@task_options
@click.option(
    "--out",
    type=UserPath(),
    help="Folder of the bundle to write; default: named after the first task.",
)
@PROFILE
@TARGET
@GPU
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
    help=f"Compiler of the engines of --baked; {_TORCH} needs that package and a GPU.",
)
@source_options
def trt(
    out: Path | None,
    profile: str | None,
    targets: str | None,
    device: str | None,
    engines: str | None,
    baked: bool,
    compiler: str,
    **selection: Any,
) -> None:
    """Write a bundle as `uda-export onnx` does, and build its TensorRT engines.

    Engines fit one library version and GPU. Where there is no GPU and no --target, the bundle is
    written alone, and `uda-runtime build` on the device builds them from it.
    """
    from runtime.backends.trt import profile as profiles
    from runtime.backends.trt.graphs import check_profile
    from runtime.backends.trt.sets import check_targets
    from runtime.backends.trt.store import store_of
    from runtime.bundles.bundle import Bundle

    chosen, wanted = None if profile is None else profiles.load(profile), split(targets)
    path = out or Path(f"{selection['tasks'][0].partition('=')[0]}.bundle")
    store = store_of(path, engines)
    if compiler == _TORCH:
        if not baked:
            raise ConfigError(f"--compiler {_TORCH} makes engines of --baked; pass that as well")
        if device is not None:
            raise ConfigError(
                f"--compiler {_TORCH} builds for the first GPU, found --device {device}; leave it "
                "out, and choose the GPU with CUDA_VISIBLE_DEVICES"
            )
        from export.torch_tensorrt.compiler import check_compiler

        check_compiler(wanted)
    reason = ""
    try:
        check_targets(wanted, device)
    except BackendError as error:
        # What was asked for by name is not left out quietly.
        if wanted or device is not None or compiler == _TORCH:
            raise
        reason = str(error)
    if engines is not None and not reason:
        store.reserve()
    export_and_show(path, baked=baked, **selection)
    bundle = Bundle.open(path)
    if reason:
        check_profile(bundle, chosen or profiles.PROFILES[profiles.DEFAULT])
        echo(f"no engine was built: {reason}\n{_on_the_device(path, profile, baked)}")
        return
    rows = build_and_show(bundle, chosen, wanted, device, engines)
    if compiler == _TORCH:
        _build_with_torch(bundle, store, rows[0].engine.recipe.profile, selection)
    elif baked:
        from export.graphs.baked import baked_graph

        graphs = (baked_graph(bundle, task) for task in bundle.tasks)
        build_and_show(bundle, chosen, wanted, device, engines, graphs)


def _build_with_torch(
    bundle: Bundle, store: EngineStore, profile: Profile, selection: dict[str, Any]
) -> None:
    """Build the engines of --baked with Torch-TensorRT, and print the result of each."""
    from export import ImagePaths
    from export.torch_tensorrt.engines import BuiltEngine, build_baked

    made: list[BuiltEngine] = []
    try:
        with progress_bar() as on_progress:
            each = build_baked(
                bundle,
                store,
                profile,
                selection["artifacts"],
                images=ImagePaths.parse(selection["images"], selection["data"]),
                max_images=selection["max_images"],
                pretrained=selection["pretrained"],
                on_progress=on_progress,
            )
            made.extend(each)
    finally:
        if made:
            echo("\n" + render([one.row for one in made]) + "\n")
            echo("\n".join(one.verdict for one in made))


def _on_the_device(bundle: Path, profile: str | None, baked: bool) -> str:
    """Return the commands that build engines on the device."""
    options = "" if profile is None else f" --profile {quoted(profile)}"
    command = f"on the device, run: uda-runtime build {quoted(bundle.name)}{options}"
    if baked:
        command += (
            "\nuda-runtime build makes no --baked engines: run uda-export trt --baked on a machine "
            "with that GPU, or build them with TensorRT's own tools from "
            f"{bundle.stem}-<task>.onnx"
        )
    return command
