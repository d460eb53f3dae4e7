"""Watch a camera with one session: which task fits, when the scene drifts, what to harvest."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from adapt.demo.camera import Camera, Shown
from adapt.demo.seen import Seen
from runtime import DriftMonitor, Harvester, Router, Session

PAUSE = 0.1
"""Seconds between the frames of a camera that goes on while something else is computed."""


class Watch:
    """One session over one bundle, in front of one camera."""

    def __init__(self, session: Session) -> None:
        """Start with an open session."""
        self.session = session
        self.seen: list[Seen] = []
        self.offered: list[Shown] = []
        """Frames that were offered to a harvest."""
        self._router = Router()
        self._monitor = DriftMonitor(every=1)  # images come one by one

    def see(self, phase: str, frame: Shown, harvester: Harvester | None = None) -> Seen:
        """Classify the next frame, and offer it to a harvest if its scene is new.

        Args:
            phase: Name of the part of the story.
            frame: Frame.
            harvester: Harvest of new scenes.
        """
        prediction = self.session.predict(frame.path, self._router)
        drift = self._monitor.see(prediction)
        assert prediction.route is not None
        known, drifting = prediction.route.known, drift.state == "drifting"
        if harvester is not None and drifting and not known:
            harvester.offer(frame.path, prediction, wait=True)
            self.offered.append(frame)
        right = prediction.label == frame.label
        self.seen.append(Seen(phase, frame.scene, prediction.task, right, known, drifting))
        return self.seen[-1]

    def see_all(self, phase: str, frames: Iterable[Shown]) -> None:
        """Classify frames one after the other."""
        for frame in frames:
            self.see(phase, frame)

    @contextmanager
    def in_background(self, phase: str, camera: Camera) -> Iterator[None]:
        """Classify frames in a thread while the block runs.

        Raises:
            UdaError: A frame failed.
        """
        ended, errors = threading.Event(), list[BaseException]()

        def work() -> None:
            try:
                self.see(phase, camera.show(1)[0])
                while not ended.wait(PAUSE):
                    self.see(phase, camera.show(1)[0])
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=work, name="camera")
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
        if errors:
            raise errors[0]


def accuracy(session: Session, task: str, frames: Iterable[Shown]) -> float:
    """Return the percentage of frames that a task classifies correctly."""
    shown = list(frames)
    right, batch = 0, 64
    for start in range(0, len(shown), batch):
        some = shown[start : start + batch]
        found = session.predict_batch([frame.path for frame in some], task)
        right += sum(p.label == f.label for p, f in zip(found, some, strict=True))
    return 100 * right / len(shown)
