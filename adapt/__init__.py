"""Adapt CLIP to an unlabelled domain, and keep the adaptation as a sparse residual.

The names in `__all__` are the public API. Importing this package does not import torch; the first
use of a name does.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adapt.artifacts.adapted import AdaptedModel, load

__all__ = ["AdaptedModel", "load"]

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # read when a module imports open_clip


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'adapt' has no attribute '{name}'")
    return getattr(import_module("adapt.artifacts.adapted"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
