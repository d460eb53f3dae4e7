"""Look up methods and their settings by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapt.registry import METHODS, method
from runtime.lookup import imported

if TYPE_CHECKING:
    from adapt.methods.base import Method
    from adapt.settings.config import TrainConfig

__all__ = ["METHODS", "get", "get_config"]


def get(name: str) -> type[Method]:
    """Return the class of a method.

    Raises:
        ConfigError: The method is unknown; the message lists the available ones.
    """
    found: type[Method] = imported(method(name).path)
    return found


def get_config(name: str) -> type[TrainConfig]:
    """Return the configuration class of a method; those shipped need no torch.

    Raises:
        ConfigError: The method is unknown; the message lists the available ones.
    """
    found: type[TrainConfig] = imported(method(name).config)
    return found
