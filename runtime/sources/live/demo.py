"""A drawn street, for people without a camera: `demo:`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from runtime.errors import ConfigError
from runtime.sources.live.base import Connection, Settings
from runtime.sources.live.pace import Pace
from runtime.sources.live.street import Street

RATE = 25.0


class Demo(Connection):
    """Draws a street without end, 25 frames a second; `demo:1` and so on are other streets."""

    def __init__(self, where: str, settings: Settings) -> None:
        """Check the number, see `Connection`."""
        super().__init__(where, settings)
        number = where.partition(":")[2] or "0"
        if not (number.isascii() and number.isdecimal() and len(number) <= 9):
            raise ConfigError(f"expected 'demo:' or 'demo:NUMBER', found '{where}'")
        self._street = Street(int(number))
        self._number = 0

    def open(self) -> None:
        """Start the clock."""
        self._pace = Pace(RATE)

    def resume(self, earlier: Connection) -> None:
        """Go on with the frame after the last one."""
        if isinstance(earlier, Demo):
            self._number = earlier._number

    def read(self) -> tuple[NDArray[np.uint8], str | None] | None:
        """Return the next frame when its time has come, see `Connection`."""
        if not self._pace.wait(self.stopping):
            return None
        image = self._street.draw(self._number / RATE)
        self._number += 1
        return image, None

    def close(self) -> None:
        """Release nothing."""
