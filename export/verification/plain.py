"""Open plain ONNX files in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.verification.base import Infer
from runtime.backends.ort.libraries import onnxruntime


def open_plain(path: Path) -> Infer:
    """Return a function that runs a plain ONNX file in ONNX Runtime with default settings."""
    library = onnxruntime()
    options = library.SessionOptions()
    options.log_severity_level = 3  # it has no float16 kernels for the CPU and says so node by node
    session = library.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def infer(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = session.run(["logits"], {"pixels": pixels})[0]
        return logits

    return infer
