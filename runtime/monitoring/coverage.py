"""Keep a well-spread subset of points that arrive one at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from runtime.monitoring.gaussian import Features

_ALIKE = 1e-3
"""Distance below which two points are one."""


class Coverage:
    """Points far from each other: one of the two nearest is replaced by a point farther away.

    After the greedy choice of k-centres (Gonzalez 1985; Sener and Savarese 2018, arXiv:1708.00489),
    for points that are seen only once. Points of different bases, as whitened by different tasks,
    cannot be compared and count as infinitely far from each other.
    """

    def __init__(self) -> None:
        """Start without points."""
        self._points: dict[str, tuple[str, Features]] = {}
        self._apart: NDArray[np.float64] = np.empty((0, 0))

    def __len__(self) -> int:
        return len(self._points)

    def distances(self, basis: str, point: Features) -> NDArray[np.float64]:
        """Return the distances (N,) of a point to all N that are kept, oldest first."""
        found = np.full(len(self._points), np.inf)
        same = [
            i
            for i, (b, p) in enumerate(self._points.values())
            if (b, len(p)) == (basis, len(point))
        ]
        if same:
            kept = list(self._points.values())
            others = np.stack([kept[i][1] for i in same]).astype(np.float64)
            found[same] = np.linalg.norm(others - point, axis=1)
        return found

    def leaves(self, basis: str, point: Features) -> str | None:
        """Return the name of the point that should leave for this one; None if this one should.

        Raises:
            KeyError: There are fewer than two points.
        """
        if len(self._points) < 2:
            raise KeyError("there is no pair of points")
        first, second = np.unravel_index(self._apart.argmin(), self._apart.shape)
        nearest = self._apart[first, second]
        others = [
            np.delete(self._apart[i], [first, second]).min(initial=np.inf) for i in (first, second)
        ]
        victim = int(first if others[0] <= others[1] else second)
        away = np.delete(self.distances(basis, point), victim).min()
        return list(self._points)[victim] if away > nearest else None

    def closest(self) -> str:
        """Return the name of a point of the nearest pair.

        Raises:
            KeyError: There is no point.
        """
        if not self._points:
            raise KeyError("there is no point")
        if len(self._points) == 1:
            return next(iter(self._points))
        return list(self._points)[int(self._apart.min(0).argmin())]

    def is_new(self, basis: str, point: Features) -> bool:
        """Return whether no point like this one is kept."""
        return bool(self.distances(basis, point).min(initial=np.inf) > _ALIKE)

    def add(self, name: str, basis: str, point: Features) -> None:
        """Keep a point under a name that is not taken."""
        away = self.distances(basis, point)
        count = len(self._points)
        grown = np.full((count + 1, count + 1), np.inf)
        grown[:count, :count] = self._apart
        grown[count, :count] = grown[:count, count] = away
        self._apart, self._points[name] = grown, (basis, point)

    def remove(self, name: str) -> None:
        """Remove a point.

        Raises:
            KeyError: There is none of that name.
        """
        position = list(self._points).index(name) if name in self._points else -1
        del self._points[name]
        self._apart = np.delete(np.delete(self._apart, position, 0), position, 1)
