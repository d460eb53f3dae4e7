"""Cross-Modal Knowledge Distillation."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from adapt.compute.inference import predict
from adapt.methods.base import Batch, Method, TrainingImages
from adapt.methods.heads import CosineHead
from adapt.methods.losses import agreement, cross_entropy, fixmatch, gini_impurity, ramp
from adapt.settings.config import AutoRequest, TrainConfig
from adapt.settings.methods import CMKDConfig
from runtime.errors import TrainingError

if TYPE_CHECKING:
    from adapt.clip.model import Clip

_log = logging.getLogger(__name__)
PARTIAL_SOURCE, PARTIAL_TARGET = 0.5, 0.1
"""Weights of the source term and of all others in the partial-set variant, in the released code."""


class CMKD(Method):
    """Cross-Modal Knowledge Distillation (Zhou and Zhou, TCSVT 2024, arXiv:2408.02192).

    A task head (deployed) and CLIP's own zero-shot head share one trained encoder. On the target,
    where both agree the task head sharpens itself; where they differ it learns from the mixture.
    The text features are constant, but the teacher moves: it reads the CURRENT encoder, as the
    released code does.

    With `fixmatch`, both heads must also classify a strong view as they classify the weak one.

    With `partial`, the target has some of the source's classes only. From the second epoch on the
    target terms see the classes alone that the task head predicts often enough on the target
    (without renormalising, the agreement still over all), and all terms weigh less: see
    `PARTIAL_SOURCE`. Pseudo labels of FixMatch are of these classes too. The prediction stays over
    all classes. Deviations: the released code predicts on test images, here on the training pixels,
    resized likewise; it forgets the classes under mixed precision, here it does not.

    Deviations of the paper from the code, which is followed: the direction of the KL in
    `agreement`, the batch-normalised and summed Gini impurity, and the formula of the ramp; see
    `adapt.methods.losses`. The released code counts iterations inside its loss; here the loop
    passes them.
    """

    Config = CMKDConfig
    config: CMKDConfig
    kept: Tensor | None
    """(C,) ones and zeros: the classes that the target is thought to have; None: not `partial`."""

    @classmethod
    def from_data(cls, config: TrainConfig, request: AutoRequest) -> dict[str, Any]:
        """Return the settings that the data decide; the ramp is as long as the run."""
        found = super().from_data(config, request)
        if "ramp_iterations" in request.auto:
            epochs, length = ({**vars(config), **found}[k] for k in ("epochs", "iterations"))
            found["ramp_iterations"] = epochs * length
        return found

    def __init__(self, clip: Clip, prompts: Sequence[str], config: CMKDConfig) -> None:
        """Build the task head, and CLIP's head from the prompts."""
        super().__init__(clip, prompts, config)
        self.clip_head = CosineHead.of(self.text, self.logit_scale)
        kept = torch.ones(len(self.text), device=self.text.device) if config.partial else None
        self.register_buffer("kept", kept)
        self._side, self._mean, self._std = clip.image_size, clip.mean, clip.std
        self._target: TrainingImages | None = None

    def prepare(self, source: TrainingImages, target: TrainingImages) -> None:
        """Keep the target's images, from which `partial` infers the target's classes."""
        self._target = target

    def start_epoch(self, epoch: int) -> None:
        """Infer the target's classes, from the second epoch of `partial` on."""
        if self.kept is None or self._target is None or not epoch:
            return
        counts = self.eval().predicted_classes(self._target).bincount(minlength=len(self.kept))
        kept = counts >= self.config.partial_minimum
        if not kept.any():
            raise TrainingError(
                f"no class is predicted for {self.config.partial_minimum} of the target's "
                f"{int(counts.sum())} images; lower partial_minimum"
            )
        self.kept.copy_(kept)
        _log.info("the target seems to have %d of %d classes", kept.sum(), len(kept))

    def predicted_classes(self, images: TrainingImages) -> Tensor:
        """Return the task head's prediction (N,) int64 for every image of a domain, uncropped."""
        side, mode = (self._side, self._side), self.config.interpolation

        def logits(images: Tensor) -> Tensor:
            if images.shape[-1] != self._side:
                images = interpolate(images, side, mode=mode, antialias=True)
            return self.logits(images)

        size, device = self.config.eval_batch_size, self.text.device
        found = predict(logits, images.pixels, size, device, mean=self._mean, std=self._std)
        return found.argmax(-1)

    def losses(self, source: Batch, target: Batch, iteration: int) -> dict[str, Tensor]:
        """Return the weighted terms "source", "task", "distill", "reg" and, if on, "fixmatch"."""
        c, lam = self.config, ramp(iteration, self.config.ramp_iterations)
        near, far = (PARTIAL_SOURCE, PARTIAL_TARGET) if c.partial else (1.0, 1.0)
        views = [source.images, target.images, *([] if target.strong is None else [target.strong])]
        features = self.features(*views)
        # In the released order: the head's BatchNorm updates its statistics source first.
        z_s, z_t, *z_u = [self.head(f) for f in features]
        clip_s, clip_t, *clip_u = [self.clip_head(f) for f in features]
        p, q = z_t.softmax(-1), clip_t.softmax(-1)  # (N, C)
        agree = agreement(z_t, clip_t)  # (N,), detached
        if self.kept is not None:
            p, q = p * self.kept, q * self.kept
        anchor = cross_entropy(clip_s, source.labels)  # no smoothing, no ramp
        terms = {
            "source": near * cross_entropy(z_s, source.labels, c.label_smoothing),
            "task": far * c.lambda1 * lam * gini_impurity(p, agree),
            "distill": far * c.lambda1 * lam * gini_impurity((p + q.detach()) / 2, 1 - agree),
            "reg": far * (c.lambda2 * anchor + c.lambda3 * lam * gini_impurity(q)),
        }
        if target.strong is not None:
            labels = fixmatch(z_t, z_u[0], c.fixmatch_threshold, self.kept)
            clip_labels = fixmatch(clip_t, clip_u[0], c.fixmatch_threshold, self.kept)
            terms["fixmatch"] = far * c.fixmatch * (labels + clip_labels)
        return terms
