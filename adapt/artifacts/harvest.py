"""Refuse to publish a task that was adapted to a harvest and is worse than zero-shot CLIP."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from adapt.data.harvest import BELOW, MEMBER
from runtime.errors import VerifyError

if TYPE_CHECKING:
    from adapt.artifacts.artifact import Artifact


def refusal(path: Path, artifact: Artifact | None = None) -> VerifyError | None:
    """Return why an artifact may not be published, or None if it may.

    Args:
        path: Path of the artifact.
        artifact: Its content, if it was read.

    Raises:
        FormatError: The artifact is damaged.
    """
    from adapt.artifacts.artifact import Artifact  # imports torch

    found = (artifact or Artifact.load(path)).optional.get(MEMBER)
    if not isinstance(found, dict) or found.get(BELOW) is not True:
        return None
    return VerifyError(
        f"'{path}' must not be published: on frames of the harvest that a person has sorted, "
        f"zero-shot CLIP is right more often ({found.get('reason')}); keep the task in use, or "
        "harvest or sort more frames and train again"
    )
