"""Read the features of the untouched base that an artifact carries for the export."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from adapt.artifacts.artifact import Artifact
from runtime.errors import FormatError
from runtime.monitoring.fit import FEWEST
from runtime.monitoring.gaussian import unit

MEMBER = "base_features"
"""Optional member of an artifact: features of the untouched base, from which the export computes
what tells the tasks of a bundle apart."""
VERSION = 1


def read(artifact: Artifact) -> NDArray[np.float32] | None:
    """Return features (N, D) of the untouched base for target images, at unit length.

    None if the artifact has none, or those of another version.

    Raises:
        FormatError: The member is damaged.
    """
    member = artifact.optional.get(MEMBER)
    if not isinstance(member, dict) or member.get("version") != VERSION:
        return None
    found = artifact.optional_tensors.get(f"{MEMBER}.features")
    if (
        found is None
        or found.dtype not in (np.float16, np.float32)
        or found.ndim != 2
        or len(found) < FEWEST
        or not bool(np.isfinite(found).all())
        or not bool(found.any(1).all())
    ):
        shown = "nothing" if found is None else f"{found.dtype}{found.shape}"
        raise FormatError(
            f"member '{MEMBER}' of the artifact of task '{artifact.task.id}' is damaged "
            f"(found {shown}, expected at least {FEWEST} finite rows); train the task again"
        )
    return unit(found)
