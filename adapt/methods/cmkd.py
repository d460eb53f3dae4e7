"""Cross-Modal Knowledge Distillation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from adapt.config import TaskHeadConfig
from adapt.heads import CosineHead
from adapt.losses import RAMP_ITERATIONS, agreement, cross_entropy, gini_impurity, ramp
from adapt.method import Batch, Method

if TYPE_CHECKING:
    from adapt.clip import Clip


@dataclass(frozen=True)
class CMKDConfig(TaskHeadConfig):
    """Settings of CMKD; the defaults are the paper's."""

    lambda1: float = 0.25
    """Weight of the task and distillation terms (DomainNet: 0.025)."""
    lambda2: float = 0.1
    """Weight of CLIP's cross entropy on the source."""
    lambda3: float = 0.025
    """Weight of CLIP's impurity on the target (DomainNet: 0.0025)."""
    ramp_iterations: int = RAMP_ITERATIONS
    """Iterations until the ramp stops growing: 10,000 in the paper, however long the run. A run of
    600 needs 600, or the target terms never matter."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ramp_iterations < 1:
            raise ValueError(f"ramp_iterations is {self.ramp_iterations}; it must be 1 or more")


class CMKD(Method):
    """Cross-Modal Knowledge Distillation (Zhou and Zhou, TCSVT 2024, arXiv:2408.02192).

    A task head (deployed) and CLIP's own zero-shot head share one trained encoder. On the target,
    where both agree the task head sharpens itself; where they differ it learns from the mixture.
    The text features are constant, but the teacher moves: it reads the CURRENT encoder, as the
    released code does.

    Deviations of the paper from the code, which is followed: the direction of the KL in
    `agreement`, the batch-normalised and summed Gini impurity, and the formula of the ramp; see
    `adapt.losses`. The released code counts iterations inside its loss; here the loop passes them.
    """

    Config = CMKDConfig
    config: CMKDConfig

    def __init__(self, clip: Clip, prompts: Sequence[str], config: CMKDConfig) -> None:
        """Build the task head, and CLIP's head from the prompts."""
        super().__init__(clip, prompts, config)
        self.clip_head = CosineHead.of(self.text, self.logit_scale)

    def losses(self, source: Batch, target: Batch, iteration: int) -> dict[str, Tensor]:
        """Return the terms "source", "task", "distill" and "reg", weighted, to be summed."""
        c, lam = self.config, ramp(iteration, self.config.ramp_iterations)
        f_s, f_t = self.features(source.images, target.images)
        # In the released order: the head's BatchNorm updates its statistics source first.
        z_s, z_t = self.head(f_s), self.head(f_t)
        clip_s, clip_t = self.clip_head(f_s), self.clip_head(f_t)
        p, q = z_t.softmax(-1), clip_t.softmax(-1)  # (N, C)
        agree = agreement(z_t, clip_t)  # (N,), detached
        anchor = cross_entropy(clip_s, source.labels)  # no smoothing, no ramp
        return {
            "source": cross_entropy(z_s, source.labels, c.label_smoothing),
            "task": c.lambda1 * lam * gini_impurity(p, agree),
            "distill": c.lambda1 * lam * gini_impurity((p + q.detach()) / 2, 1 - agree),
            "reg": c.lambda2 * anchor + c.lambda3 * lam * gini_impurity(q),
        }
