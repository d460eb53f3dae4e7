"""Import ONNX Runtime and load the CUDA libraries that its CUDA provider needs."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from threading import get_ident
from typing import Any, TextIO

from runtime.backends.imports import import_library
from runtime.mutex import Mutex

_NEEDED = ("cublasLt", "cublas", "nvrtc-builtins", "nvrtc", "curand", "cufft", "cudart", "cudnn")
"""Libraries that the CUDA provider is linked to, each after those that it needs.

NVRTC looks for its builtins when it first compiles, by name, and not beside itself.
"""
_loading = Mutex()
"""Sessions may be opened in several threads, and all of them write to one stdout."""


def onnxruntime() -> Any:
    """Import and return ONNX Runtime, its telemetry off unless the environment asks for it.

    Raises:
        BackendError: It is not installed, or broken.
    """
    # Read at import: telemetry writes a device id to the disk and looks up a host of the vendor.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    hint = "run: pip install '.[ort]', or install your device's own build"
    return import_library("onnxruntime", "ort", hint)


def preload(library: Any) -> str:
    """Load CUDA and cuDNN from Python packages; return the first line of what could not be loaded.

    The loader does not look there by itself, and ONNX Runtime only into the folder that it is
    installed in. Nothing may be missed all the same: a Jetson has them elsewhere.

    Args:
        library: ONNX Runtime's module.
    """
    with _loading:
        return _preload(library)


@cache
def _preload(library: Any) -> str:
    folders = library_folders()
    for name in _NEEDED:
        for path in (path for each in folders for path in sorted(each.glob(f"lib{name}.so.*"))):
            with contextlib.suppress(OSError):  # if it is missed, ONNX Runtime says so
                ctypes.CDLL(str(path))
    if not hasattr(library, "preload_dlls"):  # before 1.21, as on some JetPacks
        return ""
    with contextlib.redirect_stdout(_Caught(sys.stdout)) as caught:
        library.preload_dlls()
    return caught.getvalue().strip().partition("\n")[0]


def library_folders() -> list[Path]:
    """Return the folders of NVIDIA's packages that hold libraries, in every place of packages."""
    try:
        places = import_module("nvidia").__path__
    except ImportError:
        return []
    return [path for place in places for path in sorted(Path(place).glob("*/lib"))]


class _Caught(io.StringIO):
    """Takes what this thread prints, and passes on what others do."""

    def __init__(self, others: TextIO) -> None:
        super().__init__()
        self._others, self._thread = others, get_ident()

    def write(self, text: str) -> int:
        """Collect text of this thread, and pass on that of others."""
        return super().write(text) if get_ident() == self._thread else self._others.write(text)
