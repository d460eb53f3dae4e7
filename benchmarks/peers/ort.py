"""Plain ONNX Runtime: one file with constant weights per task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.peers import Files


def open_session(path: Path, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class NewSession:
    """Closes the session of the old task, opens that of the new one."""

    def __init__(self, files: Files, tasks: int, threads: int) -> None:
        self._files, self._threads = files, threads
        self._session: Any = None
        self.switch(0)

    def switch(self, number: int) -> None:
        self._session = None
        self._session = open_session(self._files.baked(number), self._threads)

    def predict(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = self._session.run(["logits"], {"pixels": pixels})[0]
        return logits

    def close(self) -> None:
        self._session = None


class AllSessions:
    """Keeps a session per task; a switch chooses one."""

    def __init__(self, files: Files, tasks: int, threads: int) -> None:
        self._sessions = [open_session(files.baked(n), threads) for n in range(tasks)]
        self.switch(0)

    def switch(self, number: int) -> None:
        self._current = self._sessions[number]

    def predict(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = self._current.run(["logits"], {"pixels": pixels})[0]
        return logits

    def close(self) -> None:
        self._sessions.clear()
        self._current = None
