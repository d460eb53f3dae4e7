"""This project: one session with all tasks loaded."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers import Files
from runtime.sessions.session import Session


class Ours:
    """A session whose tasks are resident."""

    def __init__(self, files: Files, tasks: int, threads: int) -> None:
        self._session = Session.open(files.bundle, threads=threads)
        self._tasks = self._session.tasks[:tasks]
        for task in self._tasks:
            self._session.load(task)
        self.switch(0)

    def switch(self, number: int) -> None:
        self._session.switch(self._tasks[number])

    def predict(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.stack([p.logits for p in self._session.predict_batch(list(pixels))])

    def close(self) -> None:
        self._session.close()
