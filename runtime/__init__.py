"""Run adapted vision models on a device and switch their task in place. Needs no torch.

What is named here is the public API; everything below may move between versions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.bundles.bundle import Bundle
from runtime.bundles.changes import changes
from runtime.bundles.install import install, remove, rollback
from runtime.errors import (
    BackendError,
    BaseModelError,
    ConfigError,
    DataError,
    FormatError,
    Interrupted,
    StorageError,
    TaskError,
    TrainingError,
    UdaError,
    VerifyError,
)
from runtime.frames.preprocess import Frame, read_image
from runtime.prediction import Prediction
from runtime.sessions.pool import SessionPool
from runtime.sessions.session import Session

if TYPE_CHECKING:
    from runtime.commands.options import session_options

__all__ = [
    "BackendError",
    "BaseModelError",
    "Bundle",
    "ConfigError",
    "DataError",
    "FormatError",
    "Frame",
    "Interrupted",
    "Prediction",
    "Session",
    "SessionPool",
    "StorageError",
    "TaskError",
    "TrainingError",
    "UdaError",
    "VerifyError",
    "changes",
    "install",
    "read_image",
    "remove",
    "rollback",
    "session_options",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name == "session_options":  # the only one that needs click
        from runtime.commands.options import session_options

        return session_options
    raise AttributeError(f"module 'runtime' has no attribute '{name}'")
