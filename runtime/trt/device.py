"""The library on a GPU: what an engine must have been built for, and what opens it."""

from __future__ import annotations

from pathlib import Path

from runtime.cuda.base import Device
from runtime.engines.file import Platform
from runtime.trt.library import library, logger, said, trt

_DRIVER = Path("/sys/module/nvidia/version")


def platform_of(device: Device) -> Platform:
    """Return what engines for a device must have been built for, library included."""
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
    """Return what opens engines on a device.

    Raises:
        BackendError: The library does not start.
    """
    device.activate()
    with said() as messages:
        runtime = trt.Runtime(logger())
        if runtime is None:
            raise messages.failure("start", "check the installation and the driver")
    return runtime
