"""The methods and the data sets by name. Naming them imports none; adding one is a line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from runtime.errors import ConfigError
from runtime.suggest import did_you_mean


class MethodEntry(NamedTuple):
    """A method as it is known before its module is imported."""

    path: str
    """Its module and class, an `adapt.methods.base.Method`."""
    config: str
    """Module and class of its settings, an `adapt.settings.config.TrainConfig`. Where that module
    imports no torch, wrong settings are refused without waiting for it."""
    baseline: bool = False
    """Whether its artifacts are deployed only when asked for by name."""


METHODS: Mapping[str, MethodEntry] = {
    "cmkd": MethodEntry("adapt.methods.cmkd:CMKD", "adapt.settings.methods:CMKDConfig"),
    "ekda": MethodEntry("adapt.methods.ekda:EKDA", "adapt.settings.methods:EKDAConfig"),
    "linear_probe": MethodEntry(
        "adapt.methods.linear_probe:LinearProbe",
        "adapt.settings.methods:LinearProbeConfig",
        baseline=True,
    ),
    "source_only": MethodEntry(
        "adapt.methods.source_only:SourceOnly",
        "adapt.settings.config:TaskHeadConfig",
        baseline=True,
    ),
    "unimos": MethodEntry("adapt.methods.unimos:UniMoS", "adapt.settings.methods:UniMoSConfig"),
    "zero_shot": MethodEntry(
        "adapt.methods.zero_shot:ZeroShot", "adapt.settings.methods:ZeroShotConfig", baseline=True
    ),
}

DATASETS: Mapping[str, str] = {
    "office31": "adapt.data.office31:Office31",
    "office-home": "adapt.data.office_home:OfficeHome",
    "visda": "adapt.data.visda:VisDA",
    "domainnet": "adapt.data.domainnet:DomainNet",
    "mini-domainnet": "adapt.data.mini_domainnet:MiniDomainNet",
    "imageclef": "adapt.data.imageclef:ImageCLEF",
    "digits": "adapt.data.digits:Digits",
    "demo-digits": "adapt.data.demo:DemoDigits",
    "demo-objects": "adapt.data.demo:DemoObjects",
}
"""Name to the module and class of an `adapt.data.base.Dataset`."""


def method(name: str) -> MethodEntry:
    """Return the entry of a method.

    Raises:
        ConfigError: The method is unknown; the message lists the available ones.
    """
    if name not in METHODS:
        raise ConfigError(
            f"unknown method '{name}'{did_you_mean(name, METHODS)}; available: "
            f"{', '.join(sorted(METHODS))}"
        )
    return METHODS[name]
