"""Classify a camera's frames by one task after another: `python examples/camera.py BUNDLE SOURCE`.

SOURCE is a camera (its number, /dev/v4l/by-id/..., or an address in the network), a video file or a
GStreamer pipeline that ends in an appsink, for a camera on a Jetson's CSI port for example

    nvarguscamerasrc ! video/x-raw(memory:NVMM),width=1280,height=720,framerate=30/1 ! nvvidconv !
    video/x-raw,format=BGRx ! videoconvert ! video/x-raw,format=BGR ! appsink drop=1 max-buffers=1

Without SOURCE it draws a video for itself and plays that. One thread reads frames into a short
queue, which drops its oldest frame when it is full: a classified frame is never older than the
queue is long, however slow the device. Tasks change every so many frames, or by a key: `n` or a
digit, in the window or in the terminal; `q` ends. On SIGHUP, which is what `systemctl reload`
sends, it takes over tasks that were installed or removed meanwhile, between two frames. Needs
OpenCV: `pip install '.[camera]'`, or JetPack's own. Longer than most files, so that a camera app
can be read from top to bottom.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import tempfile
import time
from collections import deque
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import click
import numpy as np

import runtime

try:
    import cv2
except ImportError as error:
    sys.exit(
        f"error: this example needs OpenCV, which cannot be imported ({error}); run pip install "
        "'.[camera]', or on a Jetson use the Python that JetPack installed its OpenCV for, with "
        "the NumPy it was built with (pip install 'numpy<2')"
    )
from capture import Camera
from screen import Recorder, check_windows, draw_video, overlay, pressed, terminal_keys
from turns import Director


class Meter:
    """Frames per second over the last frames."""

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=30)

    def tick(self) -> float:
        """Count a frame and return the rate."""
        self._times.append(time.monotonic())
        passed = self._times[-1] - self._times[0]
        return (len(self._times) - 1) / passed if passed else 0.0


@dataclass
class Signals:
    """Requests of signals, as plain fields: a handler may have interrupted the holder of a lock."""

    stop: bool = False
    refresh: bool = False

    def take(self) -> None:
        """Have signals of this process set these fields from now on."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: setattr(self, "stop", True))
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, lambda *_: setattr(self, "refresh", True))


def refresh(director: Director) -> None:
    """Take over tasks that were installed meanwhile, or print why not and continue as before."""
    try:
        changed = ", ".join(director.refresh()) or "nothing"
    except runtime.UdaError as error:
        click.echo(f"error: {error}; going on as before with {_list(director)}", err=True)
    else:
        click.echo(f"changed: {changed}; in turn: {_list(director)}")


def _list(director: Director) -> str:
    return ", ".join(director.tasks)


def notify(state: str) -> None:
    """Tell systemd, if that started us."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as link:
            link.connect("\0" + address[1:] if address.startswith("@") else address)
            link.send(state.encode())


def watch(
    session: runtime.Session,
    camera: Camera,
    director: Director,
    signals: Signals,
    *,
    window: str | None,
    video: Recorder | None,
    log: TextIO | None,
) -> dict[str, Any]:
    """Classify frames until the camera ends or a signal stops it; return the counts."""
    meter, classified, switches, current = Meter(), 0, 0, ""
    with terminal_keys() as terminal:
        while not signals.stop:
            if signals.refresh:
                signals.refresh = False
                refresh(director)
            key = pressed(window, terminal)
            if key == "q":
                break
            director.press(key)
            try:
                frame = camera.frames.get(0.5)
            except EOFError:
                break
            if frame is None:
                continue
            began = time.perf_counter()
            rgb = np.asarray(cv2.cvtColor(frame.image, cv2.COLOR_BGR2RGB), np.uint8)
            result = session.predict(rgb, task=director.task(frame.number))
            took = 1e3 * (time.perf_counter() - began)
            classified += 1
            if result.task != current:
                switches += bool(current)
                current = result.task
                click.echo(f"frame {frame.number}: task {current}")
            line = f"{meter.tick():.1f} fps, frame {frame.number}, dropped {camera.frames.dropped}"
            if window or video is not None:
                overlay(frame.image, result, line)
            if video is not None:
                video.write(frame.image)
            if window:
                cv2.imshow(window, frame.image)
            if log is not None:
                entry = {"frame": frame.number, "task": result.task, "label": result.label}
                log.write(json.dumps({**entry, "score": result.score, "ms": round(took, 3)}) + "\n")
            notify("WATCHDOG=1")
    camera.close()
    frames = camera.frames
    counts = {"captured": frames.captured, "classified": classified, "dropped": frames.dropped}
    return {**counts, "switches": switches}


def _opened(path: Path) -> TextIO:
    """Return a file for the log.

    Raises:
        runtime.UdaError: It cannot be written.
    """
    try:
        return path.open("w")
    except OSError as error:
        raise runtime.StorageError(
            f"cannot write '{path}': {error.strerror}; choose another folder"
        ) from error


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("source", required=False)
@click.option(
    "--task",
    "tasks",
    multiple=True,
    help="Task to classify by; repeatable; default: all, one after another.",
)
@click.option(
    "--every",
    type=click.IntRange(min=0),
    default=90,
    show_default=True,
    help="Number of frames until the next task; 0 keeps the first.",
)
@click.option(
    "--queue",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    help="Largest number of waiting frames; the oldest is dropped.",
)
@click.option(
    "--frames",
    type=click.IntRange(min=1),
    help="Number of frames to capture; default: until the source ends.",
)
@click.option(
    "--pace",
    type=click.FloatRange(min=0),
    help="Frames per second of a file, 0 for as fast as possible; default: its own rate.",
)
@click.option(
    "--window",
    is_flag=True,
    help="Show the frames in a window, which opencv-python-headless cannot.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Video to write, with the predictions drawn in (.avi).",
)
@click.option(
    "--log",
    "log_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File of JSON lines to write, one per frame.",
)
@runtime.session_options
def main(
    bundle: Path,
    source: str | None,
    tasks: tuple[str, ...],
    every: int,
    queue: int,
    frames: int | None,
    pace: float | None,
    window: bool,
    out: Path | None,
    log_file: Path | None,
    **settings: Any,
) -> None:
    """Classify a camera's frames by the tasks of BUNDLE, one after another."""
    signals = Signals()
    signals.take()
    try:
        made = [path.resolve() for path in (out, log_file) if path is not None]
        taken = [Path(source or "").resolve(), *made]
        for path in made:
            if taken.count(path) > 1:
                raise runtime.ConfigError(f"'{path}' would be written over; choose another name")
        if out is not None:
            Recorder.check(out)
        if window:
            check_windows()
        with ExitStack() as stack:
            enter = stack.enter_context
            session = enter(runtime.Session.open(bundle, **settings))
            director = Director(session, tasks, every)
            if source is None:
                source = str(Path(enter(tempfile.TemporaryDirectory())) / "demo.avi")
                draw_video(Path(source), frames or 300)
            camera = enter(closing(Camera(source, queue, pace, frames)))
            video = enter(closing(Recorder(out, camera.rate))) if out else None
            log = enter(_opened(log_file)) if log_file else None
            notify("READY=1")
            name = "uda-edge" if window else None
            counts = watch(session, camera, director, signals, window=name, video=video, log=log)
            notify("STOPPING=1")
    except (runtime.UdaError, cv2.error, OSError) as error:
        click.echo(f"error: {' '.join(str(error).split())}", err=True)
        sys.exit(1)
    click.echo(json.dumps(counts))


if __name__ == "__main__":
    main()
