"""Registry of backends; a new one is a file or package here and a line in the table."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from runtime.backends.names import check_engines
from runtime.errors import BackendError
from runtime.lookup import imported
from runtime.models import Precision

if TYPE_CHECKING:
    from runtime.backends.base import Backend


class Entry(NamedTuple):
    """A backend as it is known before its module is imported."""

    path: str
    """Its module and class."""
    summary: str
    """Description of the backend, for help texts."""
    packages: tuple[str, ...]
    """Names of the library's packages on PyPI; a measurement is shown with their versions."""
    devices: tuple[str, ...]
    """Kinds of devices that it runs on: `cpu`, `cuda`."""
    built: bool = False
    """Whether its engines are built before a session opens them."""


BACKENDS = {
    "ort": Entry(
        "runtime.backends.ort.backend:OrtBackend",
        "ONNX Runtime, on the CPU or a GPU",
        packages=("onnxruntime-gpu", "onnxruntime"),
        devices=("cpu", "cuda"),
    ),
    "openvino": Entry(
        "runtime.backends.openvino.backend:OpenvinoBackend",
        "OpenVINO, on the CPU",
        packages=("openvino",),
        devices=("cpu",),
    ),
    "trt": Entry(
        "runtime.backends.trt.backend:TrtBackend",
        "TensorRT on a GPU, over engines that were built before",
        packages=("tensorrt", "tensorrt-rtx"),
        devices=("cuda",),
        built=True,
    ),
}

DEFAULT = "ort"
"""Backend of whoever names none."""

_PLACES = {"cpu": "the CPU", "cuda": "a GPU"}


def entry_for(name: str, device: str) -> Entry:
    """Return a backend's entry, if it runs on that kind of device.

    Args:
        name: Name of the backend.
        device: Name of the device; whether it exists is not looked at.

    Raises:
        BackendError: The name is unknown, or the backend runs on other kinds of devices.
    """
    if not isinstance(device, str):
        raise BackendError(f"a device is named by a text, as 'cpu' or 'cuda:1'; found {device!r}")
    if name not in BACKENDS:
        raise BackendError(f"unknown backend '{name}'; available: {', '.join(sorted(BACKENDS))}")
    entry, kind = BACKENDS[name], device.partition(":")[0]
    if kind in _PLACES and kind not in entry.devices:
        places = " or ".join(_PLACES[each] for each in entry.devices)
        raise BackendError(
            f"backend '{name}' runs on {places}, found device '{device}'; "
            f"pass --device {entry.devices[0]}"
        )
    return entry


def load(
    name: str,
    device: str,
    threads: int | None,
    bundle: Path | None = None,
    engines: str | os.PathLike[str] | None = None,
    precision: Precision = "fp32",
) -> Backend:
    """Return the backend `name` for a device.

    Args:
        name: A key of `BACKENDS`.
        device: `cpu`, `cuda`, or `cuda:1` for the second GPU.
        threads: Threads within one operator on the CPU; None leaves it to the library.
        bundle: Folder of the bundle whose graphs it opens, for a backend whose engines are built
            before; None if it opens graphs as they are.
        engines: Folder of engines that were built; None is the bundle's own.
        precision: Precision of the bundle's weights, for a backend that multiplies in it.

    Raises:
        ConfigError: The folder of engines has no name.
        BackendError: The name is unknown, the library is missing or the device cannot be used.
    """
    check_engines(engines)
    entry = entry_for(name, device)
    backend: Backend = imported(entry.path)(device, threads, bundle, engines, precision)
    return backend
