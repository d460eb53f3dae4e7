"""Name the scores of `adapt.evaluation.selection` that choose an epoch without labels."""

from __future__ import annotations

from collections.abc import Mapping

from runtime.errors import ConfigError
from runtime.suggest import did_you_mean

LAST = "last"
"""Selector that takes the last epoch."""
INFOMAX = "infomax"
SELECTORS: Mapping[str, bool] = {
    "entropy": False,
    INFOMAX: True,
    "snd": True,
    "nuclear": True,
    "agreement": True,
}
"""Whether larger is better, by score."""


def names() -> list[str]:
    """Return every selector."""
    return [LAST, *SELECTORS]


def check_selector(name: str) -> None:
    """Refuse an unknown selector.

    Raises:
        ConfigError: The selector is not one of `names()`.
    """
    if name not in names():
        raise ConfigError(
            f"unknown selector '{name[:40]}'{did_you_mean(name[:40], names())}; set select to one "
            f"of {', '.join(names())}"
        )
