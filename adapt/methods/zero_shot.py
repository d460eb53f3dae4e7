"""Zero-shot CLIP, the baseline without training."""

from __future__ import annotations

from torch import nn

from adapt.methods.base import Method
from adapt.methods.heads import CosineHead
from adapt.settings.methods import ZeroShotConfig


class ZeroShot(Method):
    """Zero-shot CLIP (Radford et al., ICML 2021, arXiv:2103.00020). Nothing is trained.

    Logits are `exp(logit_scale) * cos(feature, text feature)`, with the model's own scale.
    """

    Config = ZeroShotConfig
    trains = False

    def build_head(self) -> nn.Module:
        """Return the cosine head over the text features of the class prompts."""
        return CosineHead.of(self.text, self.logit_scale)
