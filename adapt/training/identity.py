"""Tell runs apart by method, task, settings, base model and images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adapt.artifacts.artifact import Artifact
from adapt.data import digests
from adapt.data.base import DomainPair
from adapt.settings.config import TrainConfig
from runtime.console import count_of
from runtime.errors import ConfigError
from runtime.models import BaseModel

_SHOWN, _LONG = 3, 60
"""Number of differences, and of characters of a name or a value, that a message shows."""
_KINDS = {
    "task": "other domains or classes",
    "base": "other base weights",
    "guides": "another teacher",
    "method": "another method",
    "prompts": "other prompts",
}
"""Differences in the parts of an identity, for people."""


def of_run(
    method: str,
    pair: DomainPair,
    config: TrainConfig,
    base: BaseModel,
    teachers: Sequence[BaseModel] = (),
) -> dict[str, Any]:
    """Return what distinguishes a run from every other, as JSON values.

    Args:
        method: Name of the method.
        pair: Images of the task.
        config: Resolved settings.
        base: Base model of the run.
        teachers: Other base models that the run learns from.
    """
    return {
        "method": method,
        "task": asdict(pair.task),
        "config": asdict(config),
        "base": asdict(base),
        "data": {role: getattr(pair, role).digest() for role in ("source", "target", "test")},
        "guides": [asdict(teacher) for teacher in teachers],
    }


def of_artifact(artifact: Artifact) -> dict[str, Any]:
    """Return the identity of the run that made an artifact."""
    return {
        "method": artifact.method,
        "task": asdict(artifact.task),
        "config": dict(artifact.config),
        "base": asdict(artifact.base),
        "data": dict(artifact.metrics["data"]),
        "guides": [asdict(teacher) for teacher in artifact.teachers],
    }


def differences(found: object, needed: Mapping[str, Any]) -> dict[str, tuple[object, object]]:
    """Return the values of two identities by dotted key where they differ, settings first."""
    before, now = _flatten(found), _flatten(needed)
    keys = sorted(now | before, key=lambda key: not key.startswith("config."))
    values = {key: (before.get(key), now.get(key)) for key in keys}
    return {
        key: pair
        for key, pair in values.items()
        if not (digests.same(*pair) if key.startswith("data.") else pair[0] == pair[1])
    }


def check(path: Path, found: object, needed: Mapping[str, Any]) -> None:
    """Refuse a checkpoint of another run.

    Args:
        path: File of the checkpoint, for the message.
        found: Identity in the checkpoint, untrusted.
        needed: Identity of this run.

    Raises:
        ConfigError: The identities differ.
    """
    if different := differences(found, needed):
        raise ConfigError(
            f"cannot resume from '{path}': it was made with {described(different)}; use the same "
            "settings and images, or start anew with --restart"
        )


def described(different: Mapping[str, tuple[object, object]]) -> str:
    """Return the first differences of two runs for people; settings alone, if some differ.

    Args:
        different: Value of `differences`.
    """
    settings = {
        k.removeprefix("config."): v for k, v in different.items() if k.startswith("config.")
    }
    parts = [
        f"{_short(key)} {_short(before)} (now {_short(now)})"
        for key, (before, now) in settings.items()
    ]
    if not parts:
        kinds = dict.fromkeys(key.partition(".")[0] for key in different)
        roles = ", ".join(k.removeprefix("data.") for k in different if k.startswith("data."))
        known = {**_KINDS, "data": f"other images or labels ({_short(roles)})"}
        parts = [known.get(kind, f"another '{_short(kind)}'") for kind in kinds]
    more = len(parts) - _SHOWN
    return ", ".join(parts[:_SHOWN]) + (f" and {count_of(more, 'more difference')}" * (more > 0))


def _short(value: object) -> str:
    text = "unset" if value is None else str(value)
    return text if len(text) <= _LONG else f"{text[:_LONG]}..."


def _flatten(value: object, prefix: str = "") -> dict[str, object]:
    if not isinstance(value, Mapping):
        return {prefix: list(value) if isinstance(value, tuple) else value}
    flat: dict[str, object] = {}
    for key, item in value.items():
        flat |= _flatten(item, f"{prefix}.{key}" if prefix else str(key))
    return flat
