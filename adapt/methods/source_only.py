"""Fine-tuning on the source alone, the baseline of adaptation."""

from __future__ import annotations

from torch import Tensor

from adapt.methods.base import Batch, Method
from adapt.methods.losses import cross_entropy, fixmatch
from adapt.settings.config import TaskHeadConfig


class SourceOnly(Method):
    """Cross entropy on labelled source images, with CMKD's network, head and optimizer.

    The "source-only" rows of Zhou and Zhou (TCSVT 2024, arXiv:2408.02192). With
    `train_encoder=false` it is a linear probe of the untouched encoder; on a task whose source and
    target are one domain (`h-h`) it is the supervised bound.
    Target images are not looked at: the head's BatchNorm sees the source alone. With `fixmatch`
    they are: the head must classify a strong view of the target as it classifies the weak one.
    """

    Config = TaskHeadConfig
    config: TaskHeadConfig

    def losses(self, source: Batch, target: Batch, iteration: int) -> dict[str, Tensor]:
        """Return "source", the label-smoothed cross entropy, and "fixmatch" if it is on."""
        c = self.config
        views = [source.images, *([] if target.strong is None else [target.images, target.strong])]
        z_s, *z_t = [self.head(f) for f in self.features(*views)]
        terms = {"source": cross_entropy(z_s, source.labels, c.label_smoothing)}
        if z_t:
            terms["fixmatch"] = c.fixmatch * fixmatch(z_t[0], z_t[1], c.fixmatch_threshold)
        return terms
