"""The fields of an artifact that describe its run, whichever epoch is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from adapt.settings.model_config import Architecture
from runtime.models import BaseModel, Preprocess, TaskInfo


@dataclass(frozen=True)
class RunDescription:
    """Fields of an artifact that do not depend on the chosen epoch; see `Artifact`."""

    task: TaskInfo
    method: str
    preprocess: Preprocess
    prompts: tuple[str, ...]
    config: Mapping[str, Any]
    seed: int
    teachers: tuple[BaseModel, ...] = ()
    architecture: Architecture | None = None
    optional: Mapping[str, Any] = field(default_factory=dict)
