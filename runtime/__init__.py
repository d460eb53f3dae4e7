"""Run adapted vision models on a device and switch their task in place. Needs no torch.

The names in `__all__` are the public API; all other modules may move between versions. A name's
module is imported when the name is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from runtime.bundles.bundle import Bundle
    from runtime.bundles.changes import changes
    from runtime.bundles.install import install, remove, rollback
    from runtime.commands.options import session_options
    from runtime.frames.preprocess import Frame, read_image
    from runtime.monitoring.drift import Drift, DriftMonitor
    from runtime.monitoring.harvest import Harvester
    from runtime.monitoring.router import Router
    from runtime.monitoring.table import Route
    from runtime.prediction import Prediction
    from runtime.sessions.pool import SessionPool
    from runtime.sessions.session import Session
    from runtime.watch.observation import Observation
    from runtime.watch.settings import Harvest, Monitoring, SourceSettings
    from runtime.watch.sinks.base import Sink
    from runtime.watch.status import SourceStatus
    from runtime.watch.watcher import Watcher

__all__ = [
    "BackendError",
    "BaseModelError",
    "Bundle",
    "ConfigError",
    "DataError",
    "Drift",
    "DriftMonitor",
    "FormatError",
    "Frame",
    "Harvest",
    "Harvester",
    "Interrupted",
    "Monitoring",
    "Observation",
    "Prediction",
    "Route",
    "Router",
    "Session",
    "SessionPool",
    "Sink",
    "SourceSettings",
    "SourceStatus",
    "StorageError",
    "TaskError",
    "TrainingError",
    "UdaError",
    "VerifyError",
    "Watcher",
    "changes",
    "install",
    "read_image",
    "remove",
    "rollback",
    "session_options",
]
__version__ = "0.1.0"

_MODULES = {
    "Bundle": "runtime.bundles.bundle",
    "Drift": "runtime.monitoring.drift",
    "DriftMonitor": "runtime.monitoring.drift",
    "Frame": "runtime.frames.preprocess",
    "Harvest": "runtime.watch.settings",
    "Harvester": "runtime.monitoring.harvest",
    "Monitoring": "runtime.watch.settings",
    "Observation": "runtime.watch.observation",
    "Prediction": "runtime.prediction",
    "Route": "runtime.monitoring.table",
    "Router": "runtime.monitoring.router",
    "Session": "runtime.sessions.session",
    "SessionPool": "runtime.sessions.pool",
    "Sink": "runtime.watch.sinks.base",
    "SourceSettings": "runtime.watch.settings",
    "SourceStatus": "runtime.watch.status",
    "Watcher": "runtime.watch.watcher",
    "changes": "runtime.bundles.changes",
    "install": "runtime.bundles.install",
    "read_image": "runtime.frames.preprocess",
    "remove": "runtime.bundles.install",
    "rollback": "runtime.bundles.install",
    "session_options": "runtime.commands.options",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'runtime' has no attribute '{name}'")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
