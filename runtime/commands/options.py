"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

BUNDLE = click.argument("bundle", type=click.Path(path_type=Path))
DEVICE = click.option(
    "--device",
    default="cpu",
    show_default=True,
    help="Where engines run: cpu, cuda, or cuda:1 for the second GPU; one that is not there is an "
    "error.",
)
BACKEND = click.option(
    "--backend", default="ort", show_default=True, help="Kind of engine: ort, or trt on a GPU."
)
ENGINES = click.option(
    "--engines",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the engines of backend trt lie; the bundle's folder `engines` if not given.",
)
THREADS = click.option(
    "--threads", type=click.IntRange(min=1), help="CPU threads; the backend decides if not given."
)
STRATEGY = click.option(
    "--strategy",
    default="patch",
    show_default=True,
    help="How tasks are held: patch (changes of one base, in place) or engines (one for each).",
)
