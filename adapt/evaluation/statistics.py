"""Add the statistics of its unlabelled target images to an artifact, for monitoring on devices."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from adapt.artifacts import base_features
from adapt.artifacts.artifact import Artifact
from adapt.artifacts.merge import Network, load_base
from adapt.clip.model import Clip
from adapt.compute.inference import predict
from adapt.data.base import ImageSet
from adapt.data.cache import pixels
from adapt.data.rows import Rows
from runtime.monitoring.fit import FEWEST, base_limits, task_statistics
from runtime.monitoring.gaussian import unit
from runtime.monitoring.statistics import MEMBER

MOST_KEPT = 1024
"""Most rows of base features that are kept. With 512 the demo's hardest domain is recognised in
81.6 % of single frames, with 1024 in 84.3 %."""
_MOST, _PER_CLASS, _LIMIT = 1024, 16, 8192
"""Images that statistics are computed from, at most: the first number, or the second per class if
that is more, and never more than the third."""

_log = logging.getLogger(__name__)


def with_statistics(
    artifact: Artifact, images: ImageSet, device: torch.device, clip: Clip | None = None
) -> Artifact:
    """Return an artifact with the statistics of its target images.

    It is returned as it is if the images are too few, or their features not finite. No label is
    used. Many images are thinned evenly; of equal ones, the first is taken.

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
    most = min(max(_MOST, _PER_CLASS * classes), _LIMIT)
    chosen = _different(content.images, _evenly(count, most))
    if len(chosen) < FEWEST:
        shown = f"{len(chosen)} different" if len(chosen) < count else f"{count}"
        _log.info("%s target images are too few for statistics, which need %d", shown, FEWEST)
        return artifact
    clip = clip or load_base(artifact, device=str(device))
    network = Network.of(clip, artifact).to(device)

    def run(encoder: torch.nn.Module) -> torch.Tensor:
        size, parts = artifact.config["eval_batch_size"], []
        for start in range(0, len(chosen), size):  # thousands of images may not fit into memory
            some = np.stack([content.images[int(row)] for row in chosen[start : start + size]])
            parts.append(predict(encoder, some, size, device, mean=spec.mean, std=spec.std))
        return torch.cat(parts)

    own, base = run(network.encoder), run(clip.visual)
    if not all(bool(found.isfinite().all() and found.any(1).all()) for found in (own, base)):
        _log.warning(
            "features of the target images are not finite, or 0; the artifact has no statistics"
        )
        return artifact
    with torch.inference_mode():
        predicted = network.head(own.to(device)).argmax(-1).cpu().numpy()
    found = task_statistics(own.numpy(), predicted, classes)
    found = replace(found, base_drift=base_limits(base.numpy(), predicted, classes))
    kept = _evenly(len(chosen), MOST_KEPT)
    tensors: dict[str, NDArray[np.generic]] = {
        **found.tensors(),
        # At unit length, since half precision ends at 65,504.
        f"{base_features.MEMBER}.features": unit(base.numpy()[kept]).astype(np.float16),
    }
    members = {MEMBER: found.document(), base_features.MEMBER: {"version": base_features.VERSION}}
    return replace(
        artifact,
        optional={**artifact.optional, **members},
        optional_tensors={**artifact.optional_tensors, **tensors},
    )


def _evenly(count: int, most: int) -> NDArray[np.int64]:
    """Return at most so many of the positions in [0, count), spread evenly."""
    found: NDArray[np.int64] = np.linspace(0, count - 1, min(most, count)).round().astype(np.int64)
    return found


def _different(images: Rows, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the positions of different images among chosen ones.

    In cross-fitting, an image whose copy is in another fold would be as near as a fitted one.
    """
    first: dict[bytes, int] = {}
    for row in chosen.tolist():
        first.setdefault(hashlib.sha256(images[row].tobytes()).digest(), row)
    return np.array(list(first.values()), np.int64)
