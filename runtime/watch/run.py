"""Run a watcher until its sources have ended or a signal comes."""

from __future__ import annotations

from runtime.streams import unread
from runtime.watch.signals import Signals
from runtime.watch.systemd import Notifier, status_line
from runtime.watch.watcher import Watcher

_TICK = 0.2
"""Seconds between two looks at the watcher; signals are heard at once."""


def run(watcher: Watcher, signals: Signals, *, until_unread: bool = False) -> None:
    """Wait, take over tasks when SIGHUP asks for it, and keep systemd informed.

    systemd hears that the program is alive while every worker makes progress; a source that gives
    no frames is not a reason to start again.

    Args:
        watcher: Watcher that runs.
        signals: Signals that are being heard.
        until_unread: Whether it also ends when nobody reads the standard output any more.

    Raises:
        Exception: What ended a worker.
    """
    notifier = Notifier()
    notifier.send("READY=1", status_line(watcher.status()))
    try:
        while not (signals.stop is not None or watcher.ended or (until_unread and unread())):
            signals.wait(_TICK)
            watcher.check()
            if signals.refresh():
                watcher.refresh()
            if notifier.due:
                states = [status_line(watcher.status())]
                if notifier.patience is not None and not watcher.stuck(notifier.patience):
                    states.append("WATCHDOG=1")
                notifier.send(*states)
        watcher.check()
    finally:
        notifier.send("STOPPING=1")
