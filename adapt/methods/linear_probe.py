"""A linear classifier on the untouched encoder's features."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import linear

from adapt.methods.base import Batch, TrainingImages
from adapt.methods.heads import AffineHead
from adapt.methods.losses import cross_entropy
from adapt.methods.parts.features import FeatureMethod
from adapt.settings.config import TrainConfig
from adapt.settings.methods import LinearProbeConfig


class LinearProbe(FeatureMethod):
    """Linear probe (Radford et al., ICML 2021, arXiv:2103.00020) on cached source features.

    Cross entropy on the source, of an affine map of unit features that starts at zero. The target
    is ignored; on a task whose source and target are one domain (`h-h`) it tells how far an
    untouched encoder could get. Deviation: the paper fits with L-BFGS, this is SGD.
    """

    head: AffineHead
    Config = LinearProbeConfig
    source_bank: Tensor

    @classmethod
    def epoch_length(cls, config: TrainConfig, sources: int, targets: int) -> int:
        """Return one pass over the source, its last, smaller batch dropped."""
        return max(sources // config.batch_size, 1)

    def build_head(self) -> nn.Module:
        """Return the map that is trained and deployed."""
        classes, features = self.text.shape
        return AffineHead(features, classes)

    def prepare(self, source: TrainingImages, target: TrainingImages) -> None:
        """Compute the source's features, or read them from the cache."""
        self.register_buffer(
            "source_bank", self.bank(source.pixels, source.digest), persistent=False
        )

    def losses(self, source: Batch, target: Batch, iteration: int) -> dict[str, Tensor]:
        """Return the label-smoothed cross entropy of the source batch."""
        logits = linear(self.source_bank[source.indices], self.head.weight, self.head.bias)
        return {"source": cross_entropy(logits, source.labels, self.config.label_smoothing)}
