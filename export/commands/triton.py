"""`uda-export triton`: write a bundle's tasks as models of Triton Inference Server."""

from __future__ import annotations

from pathlib import Path

import click

from runtime.commands.options import BUNDLE, ENGINES
from runtime.console import UserPath, bytes_text, echo, table


@click.command(short_help="Write a Triton model repository.")
@BUNDLE
@click.option(
    "--out",
    type=UserPath(file_okay=False),
    required=True,
    metavar="model_repository",
    help="Model repository; other models in it stay.",
)
@click.option(
    "--task",
    "tasks",
    multiple=True,
    metavar="SRC-TGT",
    help="Task to write; repeatable; default: all.",
)
@click.option(
    "--max-batch",
    type=click.IntRange(min=1, max=1024),
    default=32,
    show_default=True,
    help="Largest number of frames in one run; a plan may allow fewer.",
)
@ENGINES
def triton(
    bundle: Path, out: Path, tasks: tuple[str, ...], max_batch: int, engines: str | None
) -> None:
    """Write each task of BUNDLE as a model of a Triton model repository.

    A model takes `pixels` and gives `logits`, with constant weights. Where `uda-export trt --baked`
    left plans of TensorRT, they become models SRC-TGT-trt beside the ONNX ones. Every ONNX model is
    compared with the bundle first; if one disagrees, nothing is written.
    """
    from export.triton.repository import write_repository
    from runtime.backends.trt.store import store_of
    from runtime.bundles.bundle import Bundle

    opened = Bundle.open(bundle)
    written = write_repository(
        opened, out, tasks or opened.tasks, max_batch, store_of(opened.path, engines)
    )
    cells = [
        [model.name, model.platform, model.classes, model.max_batch, bytes_text(model.size)]
        for model in written.models
    ]
    echo(table(("model", "platform", "classes", "max batch", "size"), cells))
    for note in written.notes:
        echo(f"left out: {note}")
    echo(f"wrote {out}")
