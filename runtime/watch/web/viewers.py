"""Send each viewer the latest states and pictures, as fast as it takes them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager

from runtime.watch.observation import Observation
from runtime.watch.web.cameras import Camera
from runtime.watch.web.messages import States
from runtime.watch.web.pictures import Pictures

MOST = 32
"""Number of viewers at a time."""
RATE = 10
"""Pictures per second and viewer."""


class Viewers:
    """All viewers. For one event loop.

    Nothing is queued for a viewer: when all that it was sent has left, it gets what is the latest
    then. All wait for the same moments, so that they want the same frames.
    """

    def __init__(self, cameras: Mapping[str, Camera], states: States, pictures: Pictures) -> None:
        """Begin without viewers.

        Args:
            cameras: Cameras by name.
            states: States of the cameras.
            pictures: Pictures of the cameras.
        """
        self._cameras, self._states, self._pictures = cameras, states, pictures
        self.count = 0
        """Number of viewers."""
        self._closing = False

    def close(self) -> None:
        """End all streams soon."""
        self._closing = True

    @property
    def full(self) -> bool:
        """Whether another viewer is one too many."""
        return self.count >= MOST

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count a viewer within the block."""
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1

    async def messages(self, only: str | None = None) -> AsyncIterator[bytes]:
        """Yield messages; an empty one asks that all before it has left.

        Args:
            only: Name of the one camera whose pictures are wanted; None for all.
        """
        cameras = [each for name, each in self._cameras.items() if only in (None, name)]
        shown: dict[Camera, tuple[int, Observation]] = {}
        state = self._states.latest()
        yield self._states.whole()
        while not self._closing:
            turn = await _next_turn()
            yield b""
            if self._states.latest() is not state:
                state = self._states.latest()
                yield state
            camera = _due(cameras, shown, turn)
            if camera is not None and camera.latest is not None:
                observation = camera.latest
                shown[camera] = turn, observation
                yield await self._pictures.of(camera, observation)


async def _next_turn() -> int:
    """Wait for the next moment at which viewers get a picture, and return its number."""
    now = asyncio.get_running_loop().time() * RATE
    turn = math.floor(now) + 1
    await asyncio.sleep((turn - now) / RATE)
    return turn


def _due(
    cameras: list[Camera], shown: Mapping[Camera, tuple[int, Observation]], turn: int
) -> Camera | None:
    """Return the camera whose picture is the oldest, of those that have a newer one."""

    def oldest(pair: tuple[int, Camera]) -> tuple[int, int]:
        index, camera = pair
        last = shown[camera][0] if camera in shown else -1
        return last, (index - turn) % len(cameras)  # the same one for viewers who just came

    newer = [
        (index, camera)
        for index, camera in enumerate(cameras)
        if camera.latest is not None
        and (camera not in shown or shown[camera][1] is not camera.latest)
    ]
    return min(newer, key=oldest)[1] if newer else None
