"""Encode frames as JPEG, each once for all viewers."""

from __future__ import annotations

import asyncio
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from runtime.watch.observation import Observation
from runtime.watch.web.cameras import Camera
from runtime.watch.web.messages import frame, message

ALONE, AMONG = 960, 640
"""About the longest side of a picture in pixels: of the only camera, and of one among several."""
_QUALITY = 80


class Pictures:
    """The messages of the last frames, for one event loop; threads encode, one at a time."""

    def __init__(self, cameras: int) -> None:
        """Encode nothing yet.

        Args:
            cameras: Number of cameras.
        """
        self._edge = ALONE if cameras == 1 else AMONG
        self._turn = asyncio.Lock()
        self._encoded: dict[Camera, tuple[Observation, asyncio.Task[bytes]]] = {}
        self.count = 0
        """Number of frames that were encoded."""

    async def of(self, camera: Camera, observation: Observation) -> bytes:
        """Return the message of an observation, encoded for whoever asks first.

        Args:
            camera: Camera of the observation.
            observation: Its latest one.
        """
        known = self._encoded.get(camera)
        if known is None or known[0] is not observation:
            task = asyncio.create_task(self._encode(observation))
            known = self._encoded[camera] = observation, task
            self.count += 1
        return await asyncio.shield(known[1])  # a viewer who leaves takes it from nobody

    async def _encode(self, observation: Observation) -> bytes:
        async with self._turn:
            return await asyncio.to_thread(encode, observation, self._edge)


def encode(observation: Observation, edge: int) -> bytes:
    """Return the message of an observation.

    Args:
        observation: Observation.
        edge: Longest side of the picture, in pixels.
    """
    return message(frame(observation), jpeg(observation.frame.image, edge))


def jpeg(pixels: NDArray[np.uint8], edge: int) -> bytes:
    """Return a frame as JPEG, reduced by a whole number: any other takes ten times as long.

    Args:
        pixels: (H, W, 3), RGB.
        edge: Longest side in pixels, about: what is less than half as long again keeps its size.
    """
    factor = max(1, round(max(pixels.shape[:2]) / edge))
    image = Image.fromarray(np.ascontiguousarray(pixels))
    written = io.BytesIO()
    image.reduce(factor).save(written, "JPEG", quality=_QUALITY)
    return written.getvalue()
