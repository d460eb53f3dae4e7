"""`uda-runtime watch`: classify cameras for as long as they run."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from runtime.commands.options import BUNDLE, session_options
from runtime.commands.watch_config import SOURCES, read_config
from runtime.commands.watch_options import sink_options
from runtime.console import STDOUT, UserPath, echo
from runtime.errors import DataError
from runtime.models import REJECT
from runtime.startup import INTERRUPTED
from runtime.streams import takes_more

if TYPE_CHECKING:
    from runtime.sessions.pool import SessionPool
    from runtime.sessions.session import Session
    from runtime.watch.status import SourceStatus

_PATIENCE = 0.1
"""Seconds to wait for whoever reads the last lines."""


@click.command(short_help="Watch cameras and classify their frames.")
@BUNDLE
@click.option(
    "--source",
    multiple=True,
    metavar="NAME=WHERE",
    help="Source to watch; repeatable. WHERE is a camera's number, a device, an RTSP or HTTP "
    "address, a GStreamer pipeline, a video file or a folder that is being filled.",
)
@click.option(
    "--config",
    type=UserPath(dir_okay=False, exists=True),
    is_eager=True,
    callback=read_config,
    metavar="FILE",
    help="TOML file with options by their names, and with a table such as [sources.door] for each "
    "source: where, task, every, queue, smooth, stall, fast. Options on the command line win.",
)
@click.option("--demo", is_flag=True, help="Also watch a drawn street, for trying it out.")
@click.option(
    "--task",
    help="Task to use, see `uda-runtime info`, or `auto` to choose one for each source's scene; "
    "default: the only one of the bundle.",
)
@click.option(
    "--every",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Classify one frame in so many.",
)
@click.option(
    "--queue",
    type=click.IntRange(1, 1000),
    default=2,
    show_default=True,
    help="Largest number of frames of a source that wait; the oldest is dropped.",
)
@click.option(
    "--stall",
    type=click.FloatRange(0.1, 86400),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="Connect a camera again that has sent nothing for so long.",
)
@click.option(
    "--fast",
    is_flag=True,
    help="Read video files as fast as their frames are classified, and drop none.",
)
@click.option(
    "--smooth",
    type=click.IntRange(1, 10000),
    default=1,
    show_default=True,
    help="Also give the label by the mean of the scores of so many frames under one task.",
)
@click.option(
    "--reject",
    type=click.FloatRange(0, 1, max_open=True),
    default=REJECT,
    show_default=True,
    help="Share of a task's own images that may be taken for unknown, if it has statistics.",
)
@click.option("--drift", is_flag=True, help="Watch whether frames still are like the task's own.")
@click.option(
    "--state",
    type=UserPath(file_okay=False),
    metavar="DIR",
    help="Folder that keeps the state of --drift until the next start.",
)
@click.option(
    "--harvest",
    type=UserPath(file_okay=False),
    metavar="DIR",
    help="Collect frames to adapt a task to, in a folder that only you may read.",
)
@click.option(
    "--budget",
    type=click.IntRange(1, 1 << 20),
    default=500,
    show_default=True,
    metavar="MIB",
    help="Largest size of a source's harvest.",
)
@click.option(
    "--max-age",
    type=click.FloatRange(0, 1e5, min_open=True),
    default=30.0,
    show_default=True,
    metavar="DAYS",
    help="Age at which a harvested image is removed.",
)
@click.option(
    "--sessions",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Number of frames to classify at once.",
)
@sink_options
@session_options
@click.pass_context
def watch(
    context: click.Context, /, bundle: Path, config: Path | None, sessions: int, **values: Any
) -> None:
    """Classify the frames of cameras by the tasks of BUNDLE, until they end or a signal comes.

    Cameras that fail are connected again. Tasks that are installed, replaced or removed meanwhile
    are noticed within a second, or at once on SIGHUP. SIGTERM and Ctrl-C end it within two seconds;
    a second one ends it at once.
    """
    from runtime.commands.watch_settings import monitoring_of, sources_of
    from runtime.outputs.targets import check_targets
    from runtime.watch import sinks
    from runtime.watch.run import run
    from runtime.watch.signals import Signals
    from runtime.watch.summary import summary
    from runtime.watch.watcher import Watcher

    given = {name: context.get_parameter_source(name) for name in values}
    settings = sources_of(values, given, context.meta.get(SOURCES, {}))
    monitoring = monitoring_of(values, given)
    by_user = {name: source is not ParameterSource.DEFAULT for name, source in given.items()}
    names = sinks.wanted(values, by_user)
    written = (*names, "harvest", "state")
    paths = {name: values[name] for name in written if isinstance(values.get(name), Path)}
    check_targets(paths, [source.where for source in settings], bundle)
    printed = values[sinks.PRINTED] = STDOUT in paths.values()
    asked = [name for name in names if not sinks.SINKS[name].always]
    # Whoever reads it may have had enough, as with `| head`, and then nothing is left to do.
    alone = printed and len(asked) == 1 and monitoring.harvest is None
    signals, hanging = Signals(), False
    with signals.starting():
        model = _open(bundle, sessions, values)
        try:
            opened = [sinks.load(name, values) for name in names]
            with signals.taken():
                watcher = Watcher(model, settings, opened, monitoring)
                try:
                    run(watcher, signals, until_unread=alone)
                finally:
                    watcher.close()
                    hanging = watcher.hanging
                    if takes_more(sys.stderr if printed else sys.stdout, _PATIENCE):
                        echo(summary(watcher.status()), err=printed)
        finally:
            if not hanging:
                model.close()
    _finish(watcher.status(), signals.stop, hanging=hanging)


def _finish(sources: Sequence[SourceStatus], stop: int | None, *, hanging: bool) -> None:
    """Exit with 0 where sources have ended or SIGTERM came; Ctrl-C exits with 130 as ever.

    Raises:
        DataError: A source has ended with an error.
        KeyboardInterrupt: Ctrl-C ended it.
    """
    status = 0 if stop in (None, signal.SIGTERM) else 128 + int(stop or 0)
    if hanging:  # a driver or a disk must not delay the end
        sys.stdout.flush()
        os._exit(status)
    if status == INTERRUPTED:
        raise KeyboardInterrupt
    failed = [source for source in sources if source.error is not None]
    if stop is None and failed:
        raise DataError(f"source '{failed[0].name}': {failed[0].error}")
    sys.exit(status)


def _open(bundle: Path, sessions: int, values: Mapping[str, Any]) -> Session | SessionPool:
    from runtime.sessions.pool import SessionPool
    from runtime.sessions.session import Session

    names = ("backend", "threads", "strategy", "engines", "verify", "reject")
    settings = {name: values[name] for name in names}
    if sessions == 1:
        return Session.open(bundle, device=values["device"], **settings)
    return SessionPool.open(bundle, sessions=sessions, devices=(values["device"],), **settings)
