"""Check the names of devices and engine folders."""

from __future__ import annotations

import os
import re

from runtime.errors import BackendError, ConfigError

_GPU = re.compile(r"cuda(?::([0-9]{1,3}))?", re.ASCII)


def index_of(device: str) -> int | None:
    """Return the number of a GPU, from 0; None is the CPU.

    Args:
        device: Name of the device.

    Raises:
        BackendError: No device is called so. Whether it is there is not looked at.
    """
    match = _GPU.fullmatch(device)
    if match is None and device != "cpu":
        raise BackendError(
            f"unknown device '{device}'; available: cpu, cuda, and cuda:1 for the second GPU"
        )
    return int(match[1] or 0) if match else None


def gpu_of(device: str, what: str) -> int:
    """Return the number of a GPU, from 0, where nothing else will do.

    Args:
        device: Name of the device.
        what: Action that needs a GPU, for the message, such as `backend 'trt' runs`.

    Raises:
        BackendError: No GPU is called so. Whether it is there is not looked at.
    """
    match = _GPU.fullmatch(device)
    if match is None:
        raise BackendError(
            f"{what} on a GPU, found device '{device}'; pass --device cuda, or cuda:1 for the "
            "second one"
        )
    return int(match[1] or 0)


def check_engines(folder: str | os.PathLike[str] | None) -> None:
    """Check what may be a folder of engines.

    Args:
        folder: Path of the folder; None for the one in the bundle.

    Raises:
        ConfigError: It has no name, as when a shell's variable is empty.
    """
    if folder is not None and not os.fspath(folder):
        raise ConfigError(
            "the folder of engines must have a name, found ''; name one, or leave out --engines to "
            "use the one in the bundle"
        )
