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
from runtime.errors import ConfigError
from runtime.models import BaseModel

_SHOWN = 200
"""Characters of a value that a message shows; a file may hold any."""


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
    for key, (before, now) in differences(found, needed).items():
        area, _, name = key[:_SHOWN].partition(".")
        if area == "data":  # both values are digests
            raise ConfigError(
                f"cannot resume from '{path}': it was made with other {name} images or labels; "
                "use those, or start anew with --restart"
            )
        raise ConfigError(
            f"cannot resume from '{path}': it was made with {key[:_SHOWN]} = {before!r:.{_SHOWN}}, "
            f"this run has {now!r:.{_SHOWN}}; use the same settings and data, or start anew with "
            "--restart"
        )


def _flatten(value: object, prefix: str = "") -> dict[str, object]:
    if not isinstance(value, Mapping):
        return {prefix: list(value) if isinstance(value, tuple) else value}
    flat: dict[str, object] = {}
    for key, item in value.items():
        flat |= _flatten(item, f"{prefix}.{key}" if prefix else str(key))
    return flat
