"""Statistics of a task's unlabelled target images, for those who watch it on the device."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from adapt.artifacts.artifact import Artifact
from adapt.artifacts.merge import Network, load_base
from adapt.clip.model import Clip
from adapt.compute.inference import predict
from adapt.data.base import ImageSet
from adapt.data.cache import pixels
from runtime.errors import FormatError
from runtime.monitoring.fit import FEWEST, base_limits, task_statistics
from runtime.monitoring.gaussian import unit
from runtime.monitoring.statistics import MEMBER

BASE_MEMBER = "base_features"
"""Optional member of an artifact: features of the untouched base, from which the export computes
what tells the tasks of a bundle apart."""
MOST_KEPT = 1024
"""Most rows of base features that are kept. With 512 the demo's hardest domain is recognised in
81.6 % of single frames, with 1024 in 84.3 %."""
_BASE_VERSION = 1
_MOST, _PER_CLASS, _LIMIT = 1024, 16, 8192
"""Most images, or a number per class if that is more, and the most in any case."""

_log = logging.getLogger(__name__)


def with_statistics(
    artifact: Artifact, images: ImageSet, device: torch.device, clip: Clip | None = None
) -> Artifact:
    """Return an artifact with the statistics of its target images.

    Without them, if the images are too few, or their features not finite. No label is used. Of many
    images, some are taken evenly.

    Args:
        artifact: Trained artifact.
        images: Target images that it was trained on.
        device: Device to compute on.
        clip: Base of the artifact on that device, its encoder untouched; None loads it.

    Raises:
        BaseModelError: The base of the artifact cannot be loaded.
    """
    spec = artifact.preprocess
    content = pixels(images, spec.size, spec.resize, spec.interpolation, spec.background)
    count, classes = len(content.images), len(artifact.task.classes)
    if count < FEWEST:
        _log.info("%d target images are too few for statistics, which need %d", count, FEWEST)
        return artifact
    most = min(max(_MOST, _PER_CLASS * classes), _LIMIT)
    chosen = np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(np.int64))
    clip = clip or load_base(artifact, device=str(device))
    network = Network.of(clip, artifact).to(device)

    def run(encoder: torch.nn.Module) -> torch.Tensor:
        size, parts = artifact.config["eval_batch_size"], []
        for start in range(0, len(chosen), size):  # thousands of images may not fit into memory
            some = np.stack([content.images[int(row)] for row in chosen[start : start + size]])
            parts.append(predict(encoder, some, size, device, mean=spec.mean, std=spec.std))
        return torch.cat(parts)

    own, base = run(network.encoder), run(clip.visual)
    if not bool(own.isfinite().all() and base.isfinite().all()):
        _log.warning("features of the target images are not finite; the artifact has no statistics")
        return artifact
    with torch.inference_mode():
        predicted = network.head(own.to(device)).argmax(-1).cpu().numpy()
    found = task_statistics(own.numpy(), predicted, classes)
    found = replace(found, base_drift=base_limits(base.numpy(), predicted, classes))
    kept = np.unique(np.linspace(0, len(chosen) - 1, MOST_KEPT).round().astype(np.int64))
    tensors: dict[str, NDArray[np.generic]] = {
        **found.tensors(),
        f"{BASE_MEMBER}.features": base.numpy()[kept].astype(np.float16),
        f"{BASE_MEMBER}.predicted": predicted[kept].astype(np.int32),
    }
    members = {MEMBER: found.document(), BASE_MEMBER: {"version": _BASE_VERSION}}
    return replace(
        artifact,
        optional={**artifact.optional, **members},
        optional_tensors={**artifact.optional_tensors, **tensors},
    )


def base_features(artifact: Artifact) -> NDArray[np.float32] | None:
    """Return features (N, D) of the untouched base for target images, at unit length.

    None where the artifact has none, or of another version.

    Raises:
        FormatError: The member is damaged.
    """
    member = artifact.optional.get(BASE_MEMBER)
    if not isinstance(member, dict) or member.get("version") != _BASE_VERSION:
        return None
    found = artifact.optional_tensors.get(f"{BASE_MEMBER}.features")
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
            f"member '{BASE_MEMBER}' of the artifact of task '{artifact.task.id}' is damaged "
            f"(found {shown}, expected at least {FEWEST} finite rows); train the task again"
        )
    return unit(found)
