"""The platform of a GPU, and TensorRT's runtime on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from runtime.backends.trt.engine_file import Platform
from runtime.backends.trt.library import library, started, trt
from runtime.cuda.base import Device
from runtime.cuda.driver import call
from runtime.cuda.driver import driver as cuda
from runtime.errors import BackendError

_DRIVER = Path("/sys/module/nvidia/version")
_CAPABILITY = "CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_"


class Gpu(Protocol):
    """The properties that tell GPUs apart; a `Device` has them."""

    @property
    def name(self) -> str:
        """Name of the GPU, from its driver."""

    @property
    def capability(self) -> tuple[int, int]:
        """Compute capability of the GPU."""

    @property
    def driver(self) -> int:
        """Newest CUDA that the driver takes, as 12060."""


@dataclass(frozen=True)
class _GpuInfo:
    name: str
    capability: tuple[int, int]
    driver: int


def platform_here() -> Platform | None:
    """Return the platform of the first GPU; None if there is none.

    Nothing is put onto the GPU, as a `CudaDevice` would: a camera may be at work there. None as
    well where the driver, the library or a package that reaches them is missing.
    """
    try:
        gpu, attribute = call("cuDeviceGet", 0), cuda().CUdevice_attribute
        major, minor = (
            int(call("cuDeviceGetAttribute", getattr(attribute, _CAPABILITY + part), gpu))
            for part in ("MAJOR", "MINOR")
        )
        name = call("cuDeviceGetName", 256, gpu).split(b"\0")[0].decode()
        return platform_of(_GpuInfo(name, (major, minor), int(call("cuDriverGetVersion"))))
    except BackendError:
        return None


def platform_of(device: Gpu) -> Platform:
    """Return the platform of a device: the one that its engines must have been built for."""
    found = library()
    cuda, minor = divmod(device.driver, 1000)
    try:
        driver = _DRIVER.read_text().strip()[:60] or None
    except OSError:  # not on every system
        driver = None
    return Platform(
        library=found.name,
        version=found.version,
        generation=f"sm{device.capability[0]}{device.capability[1]}",
        gpu=device.name,
        cuda=f"{cuda}.{minor // 10}",
        driver=driver,
    )


def runtime_on(device: Device) -> trt.Runtime:
    """Return a TensorRT runtime, which opens engines on a device.

    Raises:
        BackendError: The library does not start.
    """
    device.activate()
    return started(trt.Runtime)
