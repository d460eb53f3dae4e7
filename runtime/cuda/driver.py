"""Calls of the CUDA driver and NVRTC that raise BackendError with a hint."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from typing import Any

from runtime.errors import BackendError

_NO_DRIVER = "a GPU needs NVIDIA's driver (libcuda.so.1), which is not on this machine; install it"


@lru_cache(maxsize=1)
def driver() -> Any:
    """Return the module `cuda.bindings.driver`, with the driver ready for use.

    Raises:
        BackendError: The package or the driver is missing, or the driver does not start.
    """
    try:
        library = _module("driver")
    except BackendError:
        if _driver_is_missing():  # the package needs it
            raise BackendError(_NO_DRIVER) from None
        raise
    try:
        (status,) = library.cuInit(0)
    except Exception as error:  # the package has no common base class for a missing libcuda
        raise BackendError(_NO_DRIVER) from error
    _check(library, "cuInit", status)
    return library


def call(name: str, *arguments: object) -> Any:
    """Call a function of the driver; return its result, a tuple of several, or None.

    Args:
        name: Name of the function, such as `cuMemAlloc`.
        arguments: Arguments of the function in `cuda.bindings.driver`.

    Raises:
        BackendError: The driver reports an error.
    """
    library = driver()
    try:
        status, *results = getattr(library, name)(*arguments)
    except (AttributeError, RuntimeError) as error:  # cuda-bindings' own, of a private module
        raise BackendError(
            f"the CUDA driver cannot be asked for {name}: {error}; update the driver, or install "
            "the cuda-bindings of its CUDA version"
        ) from error
    if status != 0:
        _check(library, name, status)
    return results[0] if len(results) == 1 else tuple(results) or None


def nvrtc() -> Any:
    """Return the module `cuda.bindings.nvrtc`.

    Raises:
        BackendError: The package is missing.
    """
    return _module("nvrtc")


def nvrtc_call(function: Callable[..., Any], *arguments: object) -> Any:
    """Call a function of NVRTC; return its result, a tuple of several, or None.

    Raises:
        BackendError: NVRTC is missing or reports an error.
    """
    try:
        status, *results = function(*arguments)
    except Exception as error:  # the package has no common base class for a missing library
        raise BackendError(
            "the CUDA kernels are compiled with NVRTC, which was not found; run: "
            "pip install nvidia-cuda-nvrtc, or on a Jetson: apt install nvidia-jetpack (if that is "
            "there already, set CUDA_PATH=/usr/local/cuda)"
        ) from error
    if status != 0:
        _, text = nvrtc().nvrtcGetErrorString(status)
        raise BackendError(f"NVRTC failed in {function.__name__}: {text.decode()}")
    return results[0] if len(results) == 1 else tuple(results) or None


def _driver_is_missing() -> bool:
    if sys.platform != "linux":  # it has another name there
        return False
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return True
    return False


def _module(name: str) -> Any:
    try:
        return import_module(f"cuda.bindings.{name}")  # here: `import runtime` must not need it
    except ImportError as error:
        raise BackendError(
            "a GPU needs the package cuda-bindings, which is not installed; run: "
            "pip install '.[cuda]', or on JetPack 6: pip install 'cuda-bindings==12.*'"
        ) from error


def _check(library: Any, name: str, status: Any) -> None:
    if status == 0:
        return
    _, text = library.cuGetErrorString(status)
    reason = text.decode() if text else str(status)
    other = "update the driver, or install nvidia-cuda-nvrtc and cuda-bindings of its CUDA version"
    hints = {
        "CUDA_ERROR_INVALID_IMAGE": other,
        "CUDA_ERROR_NO_BINARY_FOR_GPU": other,
        "CUDA_ERROR_NO_DEVICE": "no GPU is visible; check nvidia-smi and CUDA_VISIBLE_DEVICES",
        "CUDA_ERROR_OUT_OF_MEMORY": "free memory there, or lower max_task_bytes",
        "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH": "restart the machine after the driver's update",
    }
    code = getattr(status, "name", "")
    hint = hints.get(code, "check the GPU with nvidia-smi, then start the program again")
    raise BackendError(f"the CUDA driver failed in {name}: {reason} ({code}); {hint}")
