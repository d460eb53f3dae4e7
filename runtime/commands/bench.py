"""`uda-runtime bench`: measure latency and task switching on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from runtime.commands.options import BUNDLE, JSON, session_options
from runtime.console import write_json
from runtime.errors import ConfigError, TaskError


@click.command(short_help="Measure latency.")
@BUNDLE
@click.option("--task", "tasks", multiple=True, help="Task to measure; default: all.")
@click.option(
    "--tasks",
    "count",
    type=click.IntRange(min=2),
    help="Measure instead: switching among the first N tasks, and mixes of 1 to N tasks.",
)
@click.option(
    "--frames",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    help="Frames in a mix, with --tasks.",
)
@click.option(
    "--batch",
    "batches",
    multiple=True,
    type=click.IntRange(1, 1024),
    help="Frames in a call; can be repeated; default: 1. Not with --tasks.",
)
@click.option("--samples", type=click.IntRange(min=2), default=100, show_default=True)
@click.option("--warmup", type=click.IntRange(min=0), default=10, show_default=True)
@click.option("--image", type=click.Path(path_type=Path), help="Frame; default: 640x480 noise.")
@JSON
@session_options
def bench(
    bundle: Path,
    tasks: tuple[str, ...],
    count: int | None,
    frames: int,
    batches: tuple[int, ...],
    samples: int,
    warmup: int,
    image: Path | None,
    json_file: Path | None,
    **settings: Any,
) -> None:
    """Measure latency from frame in to prediction out, and of switching.

    With --tasks N: switching in random order among N loaded tasks, and frames per second against
    the number of tasks in a mix, grouped by task (predict_many) and one by one.
    """
    import sys

    import numpy as np

    from runtime.benchmark import latency
    from runtime.benchmark import tasks as mixes
    from runtime.bundles.bundle import Bundle
    from runtime.frames.preprocess import read_image
    from runtime.sessions.session import Session

    if count is not None and batches:
        raise ConfigError(
            "--batch does not go with --tasks, which batches the frames of a mix by task; leave "
            "one of them out"
        )
    content = Bundle.open(bundle)
    for task in tasks:
        content.entry(task)
    chosen = tuple(dict.fromkeys(tasks)) or content.tasks
    if count is not None and count > len(chosen):
        raise TaskError(f"--tasks {count} needs as many tasks, found {len(chosen)} in '{bundle}'")
    plan = latency.LatencyPlan(chosen, tuple(dict.fromkeys(batches)) or (1,), samples, warmup)
    many = None if count is None else mixes.MixPlan(chosen[:count], frames, samples, warmup)
    frame = (
        np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
        if image is None
        else read_image(image)
    )

    def open_session() -> Session:
        return Session.open(bundle, **settings)

    first = latency.measure_open(open_session, frame)
    groups = len(plan.tasks) * len(plan.batches) + (len(plan.tasks) > 1)
    calls = groups * samples if many is None else mixes.progress_calls(many)
    with (
        open_session() as session,
        click.progressbar(length=calls, label="measuring", file=sys.stderr) as bar,
    ):
        rows = list(
            latency.measure(session, plan, frame, lambda: bar.update(1))
            if many is None
            else mixes.measure(session, many, frame, lambda: bar.update(1))
        )
        report = {
            "bundle": str(bundle),
            "backend": session.backend.version,
            "device": settings["device"],
            "strategy": settings["strategy"],
            "precision": content.manifest.precision,
            "frame": f"{frame.shape[1]}x{frame.shape[0]}",
            "threads": settings["threads"],
            "warmup": warmup,
            "open_ms": first,
            "rows": rows,
            "peak_rss_bytes": latency.peak_rss(),
            "machine": latency.machine(),
        }
    click.echo((latency if many is None else mixes).render(report))
    if json_file is not None:
        write_json(json_file, report)
