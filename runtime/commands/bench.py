"""`uda-runtime bench`: measure latency and task switching on this machine."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from runtime.commands.options import session_options
from runtime.console import UserPath, as_json, publish
from runtime.errors import ConfigError, TaskError

if TYPE_CHECKING:
    from runtime.bundles.bundle import Bundle

_BY_USER = ParameterSource.COMMANDLINE


@click.command(short_help="Measure latency, or compare ways to run.")
@click.argument("bundles", nargs=-1, required=True, type=UserPath(), metavar="BUNDLE...")
@click.option(
    "--compare",
    is_flag=True,
    help="Compare every backend, strategy and device that runs here, and every BUNDLE given (such "
    "as one for each precision): speed, memory and answers, and which to choose.",
)
@click.option("--task", "tasks", multiple=True, help="Task to measure; repeatable; default: all.")
@click.option(
    "--tasks",
    "count",
    type=click.IntRange(min=2),
    metavar="N",
    help="Measure switching among the first N tasks, and mixes of 1 to N tasks, instead.",
)
@click.option(
    "--frames",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    help="Number of frames in a mix, with --tasks.",
)
@click.option(
    "--batch",
    "batches",
    multiple=True,
    type=click.IntRange(1, 1024),
    help="Number of frames in a call; repeatable; default: 1. Not with --tasks. With --compare a "
    "single one, for images/s; default: 8.",
)
@click.option(
    "--samples",
    type=click.IntRange(min=2),
    default=100,
    show_default=True,
    help="Number of timed calls.",
)
@click.option(
    "--warmup",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="Number of calls before these, which do not count.",
)
@click.option(
    "--image",
    type=UserPath(),
    help="Image file to use as the frame; default: noise of 640x480 pixels, or the first of "
    "--images.",
)
@click.option(
    "--images",
    multiple=True,
    metavar="PATH",
    help="Images to compare the answers on, with --compare: a file, a folder and its subfolders, "
    "a pattern or a list file; repeatable; default: noise.",
)
@click.option(
    "--json",
    "json_file",
    type=UserPath(dir_okay=False, allow_dash=True),
    help="Also write JSON; - prints it instead of the table.",
)
@click.option(
    "--markdown",
    "markdown_file",
    type=UserPath(dir_okay=False, allow_dash=True),
    help="Also write Markdown, with --compare; - prints it instead of the table.",
)
@session_options
@click.pass_context
def bench(
    context: click.Context,
    /,
    bundles: tuple[Path, ...],
    compare: bool,
    json_file: Path | None,
    markdown_file: Path | None,
    **options: Any,
) -> None:
    """Measure the latency of predictions, from frame in to prediction out, and of switches.

    With --tasks N: switches in random order among N loaded tasks, and frames per second by the
    number of tasks in a mix, grouped by task (predict_many) and one by one.

    With --compare: every way to run the BUNDLEs on this machine, each in a process of its own, in
    interleaved rounds; --backend, --device and --strategy keep what they name, and --tasks N the
    first N tasks. Ctrl-C ends it early, and shows what was measured.
    """
    if compare:
        from runtime.commands.compare import compare as run

        by_user = [name for name in options if context.get_parameter_source(name) is _BY_USER]
        if "frames" in by_user:
            raise ConfigError("--frames does not go with --compare; leave one of them out")
        named = {name: options.pop(name) for name in ("backend", "device", "strategy")}
        only = {name: value if name in by_user else None for name, value in named.items()}
        options.pop("frames")
        targets = {"json": json_file, "markdown": markdown_file}
        given = {name: path for name, path in targets.items() if path is not None}
        run(bundles, given, only=only, **options)
        return
    if len(bundles) > 1:
        raise ConfigError(
            f"expected one bundle, found {len(bundles)}; add --compare to measure them together"
        )
    for option, value in (("--markdown", markdown_file), ("--images", options.pop("images"))):
        if value:
            raise ConfigError(f"{option} goes with --compare; add that, or leave out {option}")
    _measure(bundles[0], json_file, **options)


def _measure(
    bundle: Path,
    json_file: Path | None,
    *,
    tasks: tuple[str, ...],
    count: int | None,
    frames: int,
    batches: tuple[int, ...],
    samples: int,
    warmup: int,
    image: Path | None,
    **settings: Any,
) -> None:
    """Measure one way to run a bundle, in this process."""
    from runtime.benchmark import latency
    from runtime.benchmark import tasks as mixes
    from runtime.benchmark.frame import frame_of
    from runtime.bundles.bundle import Bundle
    from runtime.sessions.session import Session

    if count is not None and batches:
        raise ConfigError("--batch does not go with --tasks; leave one of them out")
    content = Bundle.open(bundle)
    chosen = _chosen(content, tasks, count)
    kind: Any  # the module that measures
    plan: Any
    if count is None:
        sizes = tuple(dict.fromkeys(batches)) or (1,)
        kind, plan = latency, latency.LatencyPlan(chosen, sizes, samples, warmup)
    else:
        kind, plan = mixes, mixes.MixPlan(chosen, frames, samples, warmup)
    frame = frame_of(image)
    open_session = partial(Session.open, bundle, **settings)
    first, calls = latency.measure_open(open_session, frame), kind.progress_calls(plan)
    with (
        open_session() as session,
        click.progressbar(length=calls, label="measuring", file=sys.stderr) as bar,
    ):
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
            "rows": list(kind.measure(session, plan, frame, lambda: bar.update(1))),
            "peak_rss_bytes": latency.peak_rss(),
            "machine": latency.machine(),
        }
    publish(kind.render(report), {json_file: as_json(report)})


def _chosen(bundle: Bundle, tasks: tuple[str, ...], count: int | None) -> tuple[str, ...]:
    """Return the ids of the tasks to measure.

    Raises:
        TaskError: The bundle has no such task, or not as many.
    """
    for task in tasks:
        bundle.entry(task)
    chosen = tuple(dict.fromkeys(tasks)) or bundle.tasks
    if count is not None and count > len(chosen):
        raise TaskError(
            f"--tasks {count} needs as many tasks, found {len(chosen)} in '{bundle.path}'"
        )
    return chosen[:count]
