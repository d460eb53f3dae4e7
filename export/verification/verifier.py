"""Run PyTorch and exported engines on the same real images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapt.artifacts.artifact import Artifact
from adapt.artifacts.merge import Network
from adapt.clip.model import Clip
from adapt.compute.inference import predict
from adapt.data.rows import Images
from export.verification.base import Infer, Logits
from export.verification.comparison import Comparison, Reference, check, compare
from export.verification.images import Sample
from runtime import patch
from runtime.console import ProgressCallback
from runtime.models import Precision

BATCH = 32


@dataclass
class Verifier:
    """Compare any number of engines with PyTorch on the images of one task."""

    clip: Clip
    artifact: Artifact
    images: Sample
    precision: Precision
    on_progress: ProgressCallback
    _expected: Reference | None = None

    def check(self, infer: Infer, name: str) -> Comparison:
        """Compare an engine with PyTorch, which runs only once.

        Args:
            infer: Engine to run.
            name: Name of the engine for the progress callback.

        Raises:
            BaseModelError: The artifact belongs to another base.
            FormatError: The artifact does not fit the base.
            VerifyError: The engine does not agree.
        """
        task, pixels = self.artifact.task.id, self.images.pixels
        if self._expected is None:
            self._expected = reference(self.clip, self.artifact, self.images, self.on_progress)
        step, total = f"{task}: {name}", len(pixels)
        found = run(infer, pixels, lambda done: self.on_progress(step, done, total))
        result = compare(task, found, self._expected, self.images)
        check(result, self.precision)
        return result


def reference(
    clip: Clip, artifact: Artifact, sample: Sample, on_progress: ProgressCallback
) -> Reference:
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
        def on_images(done: int) -> None:
            on_progress(what, number * count + done, len(networks) * count)

        return run(_torch(clip, network), sample.pixels, on_images)

    found = [logits(number, network) for number, network in enumerate(networks)]
    return Reference(found[0], found[-1], adapted)


def run(infer: Infer, pixels: Images, on_images: Callable[[int], None]) -> Logits:
    """Return an engine's logits (N, K) for pixels (N, S, S, 3), batch by batch.

    Args:
        infer: Engine to run.
        pixels: Images of the task.
        on_images: Callback for the number of images done.
    """
    batches = []
    for start in range(0, len(pixels), BATCH):
        batches.append(infer(np.array(pixels[start : start + BATCH])))
        on_images(min(start + BATCH, len(pixels)))
    return np.concatenate(batches)


def _torch(clip: Clip, network: Network) -> Infer:
    def infer(pixels: NDArray[np.uint8]) -> Logits:
        return predict(network, pixels, BATCH, mean=clip.mean, std=clip.std).numpy()

    return infer
