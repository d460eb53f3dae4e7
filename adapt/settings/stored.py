"""Read the settings in artifacts and checkpoints of earlier and later versions.

A setting that a file lacks has its default, or the value that stands for what was done before
there was such a setting. One that this version lacks is ignored with a warning if it was at its
default; otherwise the file is refused, and the message names the setting.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from adapt.settings.config import TrainConfig
from runtime.errors import FormatError

SETTINGS = "settings"
"""Key in `optional` of an artifact: value of `adapt.settings.layers.Settings.record`."""
_log = logging.getLogger(__name__)
_SHOWN, _FEW = 60, 3
"""Letters of a name or value, and ignored settings, that a message shows."""


def restore(
    cls: type[TrainConfig], values: Mapping[str, Any], optional: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """Return the settings of a file with exactly the keys of this version.

    Args:
        cls: The method's configuration class.
        values: Settings as the file has them.
        optional: Optional members of the file, which may record the settings that were changed.
        where: Name of the file, for messages.

    Raises:
        FormatError: A setting that this version lacks was not at its default.
    """
    removed, missing = _inherited(cls, "removed"), _inherited(cls, "when_missing")
    defaults = {field.name: missing.get(field.name, field.default) for field in fields(cls)}
    changed, ignored = _changed(optional), list[str]()
    for name in sorted(values.keys() - defaults.keys()):
        shown = f"setting {name[:_SHOWN]!r} = {values[name]!r:.{_SHOWN}}"
        if name in removed:
            default = values[name] == removed[name]
            advice = "which this version no longer has; train the task again"
        else:
            default = changed is not None and name not in changed
            advice = "which this version does not know; update uda-edge, or train the task again"
        if not default:
            raise FormatError(f"{where} was made with the {shown}, {advice}")
        ignored.append(f"{shown}, its default, {advice.split(';')[0]}")
    if ignored:
        more = f"; and {len(ignored) - _FEW} more such settings" if len(ignored) > _FEW else ""
        _log.warning("%s: ignored the %s%s", where, "; the ".join(ignored[:_FEW]), more)
    return {name: values.get(name, default) for name, default in defaults.items()}


def sources_of(optional: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the layer of each value that is not the default; None if a file has no record.

    Args:
        optional: Optional members of the file.
    """
    record = optional.get(SETTINGS)
    sources = record.get("sources") if isinstance(record, Mapping) else None
    return sources if isinstance(sources, Mapping) else None


def partial_classes(config: Mapping[str, Any]) -> int | None:
    """Return the number of target classes that settings ask for; None if both domains have all."""
    found: int = config["target_classes"]
    return found if config["partial"] else None


def _inherited(cls: type[TrainConfig], name: str) -> dict[str, Any]:
    """Return a mapping that every class of a configuration may add to."""
    return {k: v for c in reversed(cls.__mro__) for k, v in vars(c).get(name, {}).items()}


def _changed(optional: Mapping[str, Any]) -> list[Any] | None:
    """Return the settings that were changed; None if a file has no record."""
    record = optional.get(SETTINGS)
    changed = record.get("changed") if isinstance(record, Mapping) else None
    return changed if isinstance(changed, list) else None
