"""Choose a camera's task by the light: `python examples/camera.py BUNDLE --day a-c --night a-d`.

What a program of your own adds to `uda-runtime watch`: a `runtime.Sink` that takes what was
predicted for each frame, and here chooses the task of the next one.
"""

import sys
from typing import Any

import click

import runtime


class Light(runtime.Sink):
    """Prints labels where they change, and chooses between two tasks by the brightness."""

    def __init__(self, day: str, night: str) -> None:
        self.day, self.night, self.shown = day, night, ""

    def start(self, watched: Any) -> None:
        """Begin; `watched` is the watcher."""
        self.watched = watched

    def take(self, observation: runtime.Observation) -> None:
        """Take what was predicted for the latest frame; others wait until this returns."""
        if found := observation.prediction:  # None after an error
            text = f"{found.label} (task {found.task})"
            if text != self.shown:
                click.echo(f"frame {observation.frame.number}: {text}")
            self.shown = text
        brightness = observation.frame.image[::16, ::16].mean()  # 0 to 255
        if not 60 <= brightness <= 80:  # between the two it stays as it is
            self.watched.choose(observation.source, self.night if brightness < 60 else self.day)

    def close(self) -> None:
        """End."""


@click.command()
@click.argument("bundle")
@click.argument("source", default="demo:")
@click.option("--day", required=True, help="Task for bright frames.")
@click.option("--night", required=True, help="Task for dark frames.")
@runtime.session_options
def main(bundle: str, source: str, day: str, night: str, **settings: Any) -> None:
    """Classify the frames of SOURCE, anything that `uda-runtime watch` takes, by BUNDLE."""
    try:
        with runtime.Session.open(bundle, **settings) as session:
            session.load(night)  # so that a wrong name shows now
            camera = runtime.SourceSettings("camera", source, task=day)
            with runtime.Watcher(session, [camera], [Light(day, night)]) as watcher:
                while not watcher.wait(60):
                    click.echo(f"{watcher.status()[0].predicted} frames")
    except runtime.UdaError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
