"""Run PyTorch and exported engines on the same real images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapt.artifact import Artifact
from adapt.clip import Clip
from adapt.data.rows import Images
from adapt.evaluation.evaluate import predict
from adapt.merge import Network
from export.verification.base import Infer, Logits, Progress
from export.verification.comparison import Comparison, Reference, check, compare
from export.verification.images import Sample
from runtime import patch
from runtime.spec import Precision

BATCH = 32


@dataclass
class Proof:
    """One task's images and what PyTorch says about them, for any number of engines."""

    clip: Clip
    artifact: Artifact
    images: Sample
    precision: Precision
    progress: Progress
    _expected: Reference | None = None

    def check(self, infer: Infer, name: str) -> Comparison:
        """Return how an engine compares with PyTorch, which is asked once.

        Args:
            infer: The engine.
            name: What to call it while it runs.

        Raises:
            BaseModelError: The artifact belongs to another base.
            FormatError: The artifact does not fit the base.
            VerifyError: The engine does not agree.
        """
        task, pixels = self.artifact.task.id, self.images.pixels
        if self._expected is None:
            self._expected = reference(self.clip, self.artifact, self.images, self.progress)
        found = run(infer, pixels, lambda done: self.progress(f"{task}: {name}", done, len(pixels)))
        result = compare(task, found, self._expected, self.images)
        check(result, self.precision)
        return result


def reference(clip: Clip, artifact: Artifact, sample: Sample, progress: Progress) -> Reference:
    """Return PyTorch's logits for a task's images.

    Raises:
        BaseModelError: The artifact belongs to another base.
        FormatError: The artifact does not fit the base.
    """
    network = Network.of(clip, artifact)
    adapted = patch.size(artifact.residual) > 0 or bool(artifact.tokens)
    networks = [network, *([Network(clip.visual, network.head)] if adapted else [])]
    count, what = len(sample.pixels), f"{artifact.task.id}: PyTorch"

    def logits(number: int, network: Network) -> Logits:
        def told(done: int) -> None:
            progress(what, number * count + done, len(networks) * count)

        return run(_torch(clip, network), sample.pixels, told)

    found = [logits(number, network) for number, network in enumerate(networks)]
    return Reference(found[0], found[-1], adapted)


def run(infer: Infer, pixels: Images, told: Callable[[int], None]) -> Logits:
    """Return an engine's logits (N, K) for pixels (N, S, S, 3), batch by batch.

    Args:
        infer: The engine.
        pixels: All of them.
        told: Called with the number of images done.
    """
    parts = []
    for start in range(0, len(pixels), BATCH):
        parts.append(infer(np.array(pixels[start : start + BATCH])))
        told(min(start + BATCH, len(pixels)))
    return np.concatenate(parts)


def _torch(clip: Clip, network: Network) -> Infer:
    def infer(pixels: NDArray[np.uint8]) -> Logits:
        found: Logits = predict(network, pixels, BATCH, mean=clip.mean, std=clip.std).numpy()
        return found

    return infer
