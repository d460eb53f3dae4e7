"""Load an artifact back into PyTorch, as a model that classifies images: `adapt.load`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from adapt.artifacts.artifact import Artifact
from adapt.artifacts.merge import Network, load_base
from adapt.artifacts.store import artifact_file
from adapt.compute.device import exact_float32, select
from adapt.data.transforms import normalise
from runtime.errors import DataError
from runtime.frames.blank import blank
from runtime.frames.preprocess import Frame, as_frame, check_frames, preprocess
from runtime.models import Preprocess, TaskInfo
from runtime.monitoring import confidence, statistics
from runtime.monitoring.confidence import Calibration
from runtime.monitoring.statistics import TaskStatistics
from runtime.prediction import Prediction

Images: TypeAlias = "Sequence[Frame] | Tensor"
"""Arrays (H, W, 3) uint8 RGB, paths or PIL images; or a tensor (N, 3, S, S) of images from
`AdaptedModel.preprocess`."""


class AdaptedModel:
    """CLIP as a task's training left it, in evaluation mode and float32.

    It predicts what `uda-adapt eval` measures and what the exported bundle is verified against.
    """

    network: Network
    """Module from preprocessed images (N, 3, S, S) to logits (N, K), with `encoder` and `head`."""
    task: TaskInfo
    """Domains and classes that it was trained for."""

    def __init__(
        self,
        network: Network,
        task: TaskInfo,
        pixels: Preprocess,
        device: torch.device,
        batch: int,
        *,
        statistics: TaskStatistics | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        """Move a network to its device.

        Args:
            network: Encoder and head.
            task: Task that they were trained for.
            pixels: Size, resizing, background, mean and std of the images.
            device: Device to compute on.
            batch: Images per pass.
            statistics: Statistics of the task's own images, if there are some.
            calibration: Temperature of the logits, if there is one.
        """
        self.network, self.task, self.device = network.to(device).eval(), task, device
        self._pixels, self._batch = pixels, batch
        self._statistics, self._calibration = statistics, calibration

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the K classes, in the order of the logits."""
        return self.task.classes

    def preprocess(self, image: Frame) -> Tensor:
        """Return an image as the encoder takes it: (3, S, S) float32, normalised, on the CPU.

        Args:
            image: An array (H, W, 3) uint8 RGB, a path or a PIL image.

        Raises:
            DataError: The image is not RGB, or cannot be decoded.
        """
        spec = self._pixels
        pixels = np.array(preprocess(as_frame(image, spec.background), spec))
        return normalise(torch.from_numpy(pixels)[None], spec.mean, spec.std)[0]

    def encode_image(self, images: Images) -> Tensor:
        """Return the features (N, D) of images, not of unit length, on the model's device.

        Raises:
            DataError: `images` is empty, or one of them cannot be used.
        """
        return self._run(self.network.encoder, images)

    def logits(self, images: Images) -> Tensor:
        """Return the logits (N, K) of images on the model's device; `softmax(-1)` gives scores.

        Raises:
            DataError: `images` is empty, or one of them cannot be used.
        """
        return self._run(self.network, images)

    def classify(self, images: Images) -> list[Prediction]:
        """Return a prediction for each image, as `runtime.Session.predict_batch` does.

        Raises:
            DataError: `images` is empty, or one of them cannot be used.
        """
        if not isinstance(images, Tensor):
            check_frames(images)
        found: list[Prediction] = []
        for start in range(0, max(len(images), 1), self._batch):
            found += self._classify(images[start : start + self._batch])
        return found

    def _classify(self, images: Images) -> list[Prediction]:
        """Return a prediction for each image of a batch."""
        own, blanks = self._statistics, [False] * len(images)
        if own is not None and not isinstance(images, Tensor):
            frames = [as_frame(image, self._pixels.background) for image in images]
            images, blanks = frames, [blank(frame) for frame in frames]

        def encode_and_classify(some: Tensor) -> Tensor:
            features = self.network.encoder(some).float()
            return torch.cat([features, self.network.head(features)], 1)

        rows = self._run(encode_and_classify, images).cpu().numpy()
        features, logits = np.split(rows, [-len(self.task.classes)], 1)
        return [
            Prediction(
                *(self.task.id, self.task.classes, row),
                features=None if own is None else seen,
                statistics=own,
                blank=is_blank,
                calibrated=self._calibration,
            )
            for row, seen, is_blank in zip(logits, features, blanks, strict=True)
        ]

    @exact_float32()
    @torch.no_grad()
    def _run(self, network: Callable[[Tensor], Tensor], images: Images) -> Tensor:
        size = self._pixels.size
        if isinstance(images, Tensor) and (
            images.shape[1:] != (3, size, size) or images.dtype != torch.float32
        ):
            raise DataError(
                f"a tensor of images must be (N, 3, {size}, {size}) float32, found "
                f"{tuple(images.shape)} {images.dtype}; stack what `preprocess` returns"
            )
        check_frames(images)
        parts = []
        for start in range(0, len(images), self._batch):
            some = images[start : start + self._batch]
            if not isinstance(some, Tensor):
                some = torch.stack([self.preprocess(image) for image in some])
            some = some.to(self.device, memory_format=torch.channels_last)  # as evaluation has it
            parts.append(network(some).float())
        return torch.cat(parts)


def load(
    artifact: str | Path, *, pretrained: str | Path | None = None, device: str = "cpu"
) -> AdaptedModel:
    """Load an adapted model from its artifact and its base weights.

    Args:
        artifact: Folder that `uda-adapt train` wrote for one variant of a task, or the file
            `artifact.safetensors` in it.
        pretrained: File of the base weights, if they are not where training found them.
        device: `cpu`, `cuda` or `cuda:N`.

    Raises:
        FormatError: The artifact is missing or damaged.
        BaseModelError: The base weights are missing, or are not those of training.
        BackendError: The device cannot be used.
    """
    where, found = select(device), Artifact.load(artifact_file(artifact))
    clip = load_base(found, pretrained, advice="pretrained=PATH")
    size = found.config["eval_batch_size"]
    classes = len(found.task.classes)
    return AdaptedModel(
        *(Network.of(clip, found), found.task, found.preprocess, where, size),
        statistics=statistics.read(found.optional, found.optional_tensors, classes),
        calibration=confidence.read(found.optional),
    )
