"""Export adapted models to bundles of weight-free ONNX graphs that agree with PyTorch.

Importing this package imports neither torch nor onnx; the first use of a name does.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from export.pipeline import TaskReport, export_bundle, verify_bundle
    from export.verification.images import ImagePaths

__all__ = ["ImagePaths", "TaskReport", "export_bundle", "verify_bundle"]

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read when a module imports open_clip

_MODULES = {
    "ImagePaths": "export.verification.images",
    "TaskReport": "export.pipeline",
    "export_bundle": "export.pipeline",
    "verify_bundle": "export.pipeline",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'export' has no attribute '{name}'")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
