"""The methods by name. Listing them imports none; adding one is a file and a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adapt.suggest import did_you_mean
from runtime.errors import ConfigError

if TYPE_CHECKING:
    from adapt.methods.base import Method
    from adapt.settings.config import TrainConfig

METHODS = {
    "cmkd": "adapt.methods.cmkd:CMKD",
    "ekda": "adapt.methods.ekda:EKDA",
    "linear_probe": "adapt.methods.linear_probe:LinearProbe",
    "source_only": "adapt.methods.source_only:SourceOnly",
    "unimos": "adapt.methods.unimos:UniMoS",
    "zero_shot": "adapt.methods.zero_shot:ZeroShot",
}
"""Name to "module:Class"."""
BASELINES = ("zero_shot", "source_only", "linear_probe")
"""Methods that nobody deploys by accident: their artifacts must be asked for by name."""


def get(name: str) -> type[Method]:
    """Return the class of a method.

    Raises:
        ConfigError: The method is unknown; the message lists the available ones.
    """
    from importlib import import_module

    _check(name)
    module, attribute = METHODS[name].split(":")
    method: type[Method] = getattr(import_module(module), attribute)
    return method


def get_config(name: str) -> type[TrainConfig]:
    """Return the configuration class of a method, which needs no torch.

    Raises:
        ConfigError: The method is unknown; the message lists the available ones.
    """
    from adapt.settings.methods import CONFIGS

    _check(name)
    return CONFIGS[name]


def _check(name: str) -> None:
    if name not in METHODS:
        raise ConfigError(
            f"unknown method '{name}'{did_you_mean(name, METHODS)}; available: "
            f"{', '.join(sorted(METHODS))}"
        )
