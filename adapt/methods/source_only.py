"""Fine-tuning on the source alone: what adaptation has to beat."""

from __future__ import annotations

from torch import Tensor

from adapt.config import TaskHeadConfig
from adapt.losses import cross_entropy
from adapt.method import Batch, Method


class SourceOnly(Method):
    """Cross entropy on labelled source images, with CMKD's network, head and optimizer.

    The "source-only" rows of Zhou and Zhou (TCSVT 2024, arXiv:2408.02192). With
    `train_encoder=false` it is a linear probe of the untouched encoder; on a task whose source and
    target are one domain (`h-h`) it is the supervised bound.
    Target images are not looked at: the head's BatchNorm sees the source alone.
    """

    Config = TaskHeadConfig
    config: TaskHeadConfig

    def losses(self, source: Batch, target: Batch, iteration: int) -> dict[str, Tensor]:
        """Return the label-smoothed cross entropy of the source batch."""
        (features,) = self.features(source.images)
        smoothing = self.config.label_smoothing
        return {"source": cross_entropy(self.head(features), source.labels, smoothing)}
