"""Open plain ONNX files, to compare them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.verification.base import Infer


def open_plain(path: Path) -> Infer:
    """Return what a plain file computes, opened by ONNX Runtime as anybody would."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it has no float16 kernels for the CPU and says so node by node
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def infer(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = session.run(["logits"], {"pixels": pixels})[0]
        return logits

    return infer
