"""Kernels on a device, and launches whose arguments are packed once."""

from __future__ import annotations

import ctypes
from typing import Any

from runtime.cuda.compiler import SOURCES, kernels
from runtime.cuda.driver import call

THREADS = 256
"""Threads of a block."""


class Kernels:
    """Every kernel of `runtime/cuda/kernels`, loaded onto the device that is current."""

    def __init__(self, capability: tuple[int, int]) -> None:
        """Compile or read, and load.

        Raises:
            BackendError: NVRTC is missing or too old for this GPU, or the driver refuses its code.
        """
        self._modules = [call("cuModuleLoadData", kernels(name, capability)) for name in SOURCES]
        scatter, resize = self._modules
        self.patch: Any = call("cuModuleGetFunction", scatter, b"uda_patch")
        self.undo: Any = call("cuModuleGetFunction", scatter, b"uda_undo")
        self.resize: Any = call("cuModuleGetFunction", resize, b"uda_resize")

    def close(self) -> None:
        """Unload them."""
        while self._modules:
            call("cuModuleUnload", self._modules.pop())


class Call:
    """A kernel with its arguments, packed once: what a launch costs is the driver's call."""

    def __init__(self, function: Any, blocks: int, *arguments: Any) -> None:
        """Pack.

        Args:
            function: Function of `Kernels`.
            blocks: Number of blocks of `THREADS` threads.
            arguments: ctypes values of the types that the kernel declares.
        """
        self._function, self._blocks, self._arguments = function, blocks, arguments
        self._pointers = (ctypes.c_void_p * len(arguments))(
            *(ctypes.addressof(argument) for argument in arguments)
        )

    def launch(self, stream: int) -> None:
        """Put it onto a stream.

        Raises:
            BackendError: The driver reports an error.
        """
        shape, pointers = (self._blocks, 1, 1, THREADS, 1, 1), ctypes.addressof(self._pointers)
        call("cuLaunchKernel", self._function, *shape, 0, stream, pointers, 0)
