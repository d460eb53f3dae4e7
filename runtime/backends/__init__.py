"""Backends by name. A new one is one file here and one line in the table."""

from __future__ import annotations

from importlib import import_module

from runtime.backends.base import Backend
from runtime.backends.trt.store import EngineStore
from runtime.errors import BackendError

BACKENDS = {
    "ort": "runtime.backends.ort:OrtBackend",
    "trt": "runtime.backends.trt.backend:TrtBackend",
}


def load(
    name: str, device: str, threads: int | None, engines: EngineStore | None = None
) -> Backend:
    """Return the backend `name` for a device.

    Args:
        name: A key of `BACKENDS`.
        device: `cpu`, `cuda`, or `cuda:1` for the second GPU.
        threads: Threads within one operator on the CPU; None leaves it to the library.
        engines: Where backend `trt` finds what was built.

    Raises:
        BackendError: The name is unknown, the library is missing or the device cannot be used.
    """
    if not isinstance(device, str):
        raise BackendError(f"a device is named by a text, as 'cpu' or 'cuda:1'; found {device!r}")
    if name not in BACKENDS:
        raise BackendError(f"unknown backend '{name}'; known are {', '.join(sorted(BACKENDS))}")
    module, attribute = BACKENDS[name].split(":")
    backend: Backend = getattr(import_module(module), attribute)(device, threads, engines)
    return backend
