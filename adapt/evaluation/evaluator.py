"""Measure accuracy, and scores that need no labels, at the end of every epoch."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapt.clip.model import Clip
from adapt.compute import parallel
from adapt.compute.inference import predict
from adapt.data import DomainPair
from adapt.data.base import UNKNOWN
from adapt.data.cache import Pixels, pixels
from adapt.evaluation import selection
from adapt.evaluation.evaluate import Scores, score
from adapt.methods.base import Method
from adapt.methods.heads import CosineHead
from adapt.settings.config import TrainConfig
from adapt.settings.selectors import INFOMAX
from runtime.errors import TrainingError


class Evaluator:
    """Computes accuracy on the test images and label-free scores on the training target.

    Images are preprocessed as on the device. Equal image sets are evaluated once, and features of a
    frozen encoder are computed once.
    """

    def __init__(
        self,
        method: Method,
        clip: Clip,
        pair: DomainPair,
        config: TrainConfig,
        device: torch.device,
    ) -> None:
        """Open the images, without computing anything.

        Args:
            method: Method to evaluate.
            clip: Base of the method; its own head gives CLIP's predictions.
            pair: Images to evaluate on.
            config: Settings, of which those of resizing are used.
            device: Device to compute on.
        """
        self._method, self._clip, self._config, self._device = method, clip, config, device
        self._classes = pair.task.classes
        self._clip_head = CosineHead.of(method.text, method.logit_scale)
        self.test = self._open(pair, "test")
        same = pair.test is pair.target or not method.trains
        self._target = self.test if same else self._open(pair, "target")
        self.truth: NDArray[np.int64] = pair.test.labels[self.test.positions]
        self.known = bool((self.truth != UNKNOWN).any())
        self._features: dict[int, Tensor] = {}

    def _open(self, pair: DomainPair, role: str) -> Pixels:
        size, config, images = self._clip.image_size, self._config, getattr(pair, role)
        return pixels(images, size, config.resize, config.interpolation, config.background)

    def __call__(self) -> tuple[Scores | None, dict[str, float]]:
        """Return the scores on the test images, and the label-free ones by name.

        Raises:
            TrainingError: A prediction is not finite, as after a step that was too large.
        """
        method = self._method.eval()
        target = self._see(self._target)
        logits = self._finite(self._classify(target))
        # Of what does not train, no epoch is chosen; one score compares it with what does.
        label_free = {INFOMAX: selection.information_maximisation(logits.cpu())}
        if method.trains:
            clip_logits = self._finite(self._clip_head(target))
            label_free = selection.scores(logits.cpu(), clip_logits=clip_logits.cpu())
        if not self.known:
            return None, label_free
        if self._target is not self.test:
            logits = self._finite(self._classify(self._see(self.test)))
        return score(logits.cpu(), self.truth, self._classes), label_free

    def _finite(self, logits: Tensor) -> Tensor:
        """Return the logits if all are finite.

        Raises:
            TrainingError: A logit is not finite, as finite weights can overflow.
        """
        if bool(logits.isfinite().all()):
            return logits
        config = self._config
        hint = (
            f"lower the learning rate (lr={config.lr:g})"
            if self._method.trains
            else f"check the weights '{config.pretrained}', or fetch them again"
        )
        raise TrainingError(f"a prediction is not finite; {hint}; no artifact was written")

    def seconds(self) -> float:
        """Estimate the seconds of one call from the second of two batches of the target.

        0 for a frozen encoder: its features are computed once. Weights and running
        statistics stay as they are; what the heads and the scores cost is not counted.
        """
        if self._method.frozen:
            return 0.0
        method, seconds = self._method.eval(), 0.0
        size, style = self._config.eval_batch_size, self._style()
        some = self._target.images.part(slice(0, size))
        for _ in range(2):  # the first warms up
            started = time.monotonic()
            predict(method.encode, some, size, self._device, **style)
            seconds = time.monotonic() - started
        both = {id(images): len(images.images) for images in (self.test, self._target)}
        seen = sum(both.values()) if self.known else len(self._target.images)
        return seconds * seen / len(some)

    def _style(self) -> dict[str, Any]:
        return {"mean": self._clip.mean, "std": self._clip.std}

    def _see(self, images: Pixels) -> Tensor:
        """Return the features (N, D) of images, on the device; of unit length from a bank."""
        known = self._features.get(id(images))
        if known is not None:
            return known
        found = self._compute(images)
        if self._method.frozen:
            self._features[id(images)] = found
        return found

    def _compute(self, images: Pixels) -> Tensor:
        banked = self._method.bank(images.images, images.key)
        if banked is not None:  # what it trains from, and its heads normalise
            return banked
        size, count = self._config.eval_batch_size, len(images.images)
        own = parallel.portion(count)
        found = torch.empty(0, self._clip.dim)  # of a process without a share
        if own.start < own.stop:
            found = predict(
                self._method.encode, images.images.part(own), size, self._device, **self._style()
            )
        return parallel.collect(found.to(self._device), count)

    @torch.inference_mode()
    def _classify(self, features: Tensor) -> Tensor:
        return self._method.classify(features)
