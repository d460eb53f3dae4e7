"""What a test marked `gpu` needs besides a driver; without it, the test is left out by name."""

from __future__ import annotations

import importlib.util

import pytest

from benchmarks.gpu.steps import find_gpu


def is_emulated() -> bool:
    """Return whether the driver is that of tests/runtime/cuda: it runs our kernels, no others."""
    return (find_gpu()[0] or "").startswith("Emulated GPU")


def need_onnxruntime() -> None:
    """Leave a test out where ONNX Runtime's CUDA provider cannot run."""
    library = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" not in library.get_available_providers():
        pytest.skip("needs onnxruntime-gpu")
    if is_emulated():
        pytest.skip("needs a real GPU for ONNX Runtime's CUDA provider")


def need_tensorrt() -> None:
    """Leave a test out where no TensorRT can run."""
    if not any(map(importlib.util.find_spec, ("tensorrt", "tensorrt_rtx"))):
        pytest.skip("needs TensorRT or TensorRT-RTX")
    if is_emulated():
        pytest.skip("needs a real GPU for TensorRT")
