"""Unified Modality Separation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from adapt.compute.seeds import draw_seed
from adapt.methods.base import Batch, Deployed, TrainingImages
from adapt.methods.heads import AffineHead
from adapt.methods.losses import cross_entropy
from adapt.methods.parts import unimos_losses as loss
from adapt.methods.parts.features import FeatureMethod
from adapt.methods.parts.unimos_network import Affine, Network
from adapt.settings.config import TrainConfig
from adapt.settings.methods import UniMoSConfig

if TYPE_CHECKING:
    from adapt.clip.model import Clip

EPOCH_LIMIT = 1500
"""Largest number of iterations per epoch, as in the released code."""
PRIOR_MOMENTUM = 0.99
"""Momentum of the running mean of the language branch's predictions on the target."""
DEBIAS = 0.5
"""tau: share of the running mean's logarithm that is subtracted from the language logits."""
FIRST_WEIGHT, WEIGHT_STEP = 0.8, 0.05
"""Weight of the vision branch after epoch 0, and its decrease per epoch."""


class UniMoS(FeatureMethod):
    """Unified Modality Separation (Li et al., CVPR 2024, arXiv:2403.06946).

    Over CLIP features that are computed once, one linear map separates what is vision from what is
    language. The vision branch learns a classifier, the language branch keeps close to CLIP's
    prompts, a discriminator tells the two apart, and their weighted sum labels the target. After
    training all of it is ONE affine map of the unit feature, which is the deployed head.

    The released code is followed where the paper differs: language features are not normalised;
    the raw language logits enter the training ensemble; the separation loss; pseudo labels change
    between zero-shot (epochs 0 and 1), centroids (even epochs) and the ensemble (odd ones); the
    vision weight falls from 0.8 to 0.3 over ten epochs; half of the weight generator's tensors are
    redrawn before every epoch; every layer trains at one rate.

    Deviations from the code: float32 throughout (its fp16 loses up to 0.06 of a logit), so neither
    features nor the matrix of text features are rounded to fp16; the fold takes a class whose
    running mean is 0 for one at the smallest normal number, of which the logarithm is finite; the
    rest of a pass over the images that fills no batch is dropped; redrawing depends on seed and
    epoch alone. The code steps a second SGD on the target's discriminator term after the first on
    all else, with gradients taken before either step. Both have one rate and one momentum, and
    momentum SGD is linear in its gradients: the two steps are one step on the sum. The
    discriminator itself learns from the source term only.
    """

    Config = UniMoSConfig
    config: UniMoSConfig
    head: AffineHead
    prior: Tensor
    """qhat (K,), running mean of the language branch's predictions."""
    epoch: Tensor
    """The epoch that is being trained, or was trained last."""
    pseudo: Tensor
    """(N,) labels that the target images have in this epoch."""
    source_bank: Tensor
    target_bank: Tensor
    teacher: Tensor
    """(N, K) zero-shot logits of the target images."""

    def __init__(self, clip: Clip, prompts: Sequence[str], config: UniMoSConfig) -> None:
        """Build the network that the head is folded from."""
        super().__init__(clip, prompts, config)
        classes, device = len(self.text), self.text.device
        self.prompt_matrix = config.temperature * self.text  # (K, D)
        self.register_buffer("prior", torch.full((classes,), 1 / classes, device=device))
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64, device=device))
        self.eval()

    def build_head(self) -> nn.Module:
        """Return the affine head, and draw the network whose fold it is from the same seed."""
        classes, dim = self.text.shape
        self.network = Network(dim, classes, self.config.width).to(self.text.device)
        return AffineHead(dim, classes, trained=False)

    @classmethod
    def epoch_length(cls, config: TrainConfig, sources: int, targets: int) -> int:
        """Return one pass over the smaller domain, at most 1,500 iterations."""
        return max(1, min(sources // config.batch_size, targets // config.batch_size, EPOCH_LIMIT))

    def prepare(self, source: TrainingImages, target: TrainingImages) -> None:
        """Compute both domains' features, or read them; start with zero-shot labels."""
        rows = self.bank(target.pixels, target.digest)
        self.register_buffer(
            "source_bank", self.bank(source.pixels, source.digest), persistent=False
        )
        self.register_buffer("target_bank", rows, persistent=False)
        self.register_buffer("teacher", rows @ self.prompt_matrix.T, persistent=False)
        self.register_buffer("pseudo", self.teacher.argmax(-1))

    def start_epoch(self, epoch: int) -> None:
        """Label the target anew from the second epoch on, and redraw parts of the generator."""
        if epoch >= 2:
            self.pseudo.copy_(self._labels())
        self.epoch.fill_(epoch)
        draws = torch.Generator().manual_seed(draw_seed(self.config.seed, "generator", epoch))
        self.network.redraw_generator(draws)

    def losses(self, source: Batch, target: Batch, iteration: int) -> dict[str, Tensor]:
        """Return the weighted terms, to be summed, and move the running mean of the predictions.

        "lac" and "vac" train the language and vision branch, "im" maximises information,
        "separation" keeps both apart, and the "discriminator" terms tell one from the other.
        """
        c, net, n = self.config, self.network, len(source.indices)
        x = torch.cat(
            [
                self.source_bank.index_select(0, source.indices),
                self.target_bank.index_select(0, target.indices),
            ]
        )
        pairs = net.separate(x)  # (2B, 2D), source first
        vision, language = pairs.chunk(2, -1)
        o_s, o_t = net.vision_logits(vision).split(n)
        l_s, l_t = linear(language, self.prompt_matrix).split(n)
        with torch.no_grad():
            self.prior.lerp_(l_t.softmax(-1).mean(0), 1 - PRIOR_MOMENTUM)
        w = net.vision_weight(vision[n:])
        e = w * o_t + (1 - w) * l_t.detach()
        rows_s, rows_t = pairs.view(2, 2 * n, -1)  # v_1, u_1, v_2, u_2, ... of each domain
        apart_s, apart_t = net.tell_apart(rows_s), net.tell_apart(rows_t, fixed=True)
        return {
            "lac": c.alpha * cross_entropy(l_s, source.labels)
            + loss.distillation(l_t, self.teacher[target.indices]),
            "vac": c.beta * cross_entropy(o_s, source.labels)
            + cross_entropy(e, self.pseudo[target.indices]),
            "im": loss.information_maximisation(e),
            "separation": c.gamma * loss.separation(vision, language),
            "source_discriminator": c.gamma * loss.discrimination(apart_s),
            "target_discriminator": c.gamma * loss.discrimination(apart_t),
        }

    @torch.no_grad()
    def fold(self) -> Affine:
        """Return the network in evaluation mode as one map of unit features, in float64.

        `a o + (1 - a) (l - tau log qhat)`, `a = max(0.3, 0.8 - 0.05 epoch)`. After epoch 0 the
        centred zero-shot logits take the place of the language branch's, as in the released code.
        """
        epoch = int(self.epoch)
        a = max(self.config.vision_weight, FIRST_WEIGHT - WEIGHT_STEP * epoch)
        vision, rows = self.network.fold_vision(), self.config.temperature * self.text.double()
        if epoch:
            language = self.network.fold_language(rows)
            floor = torch.finfo(self.prior.dtype).tiny
            bias = language.bias - DEBIAS * self.prior.double().clamp_min(floor).log()
            language = Affine(language.weight, bias)
        else:
            language = Affine(rows - rows.mean(0), torch.zeros_like(vision.bias))
        return Affine(*(a * v + (1 - a) * t for v, t in zip(vision, language, strict=True)))

    @torch.no_grad()
    def _labels(self) -> Tensor:
        """Return the target's labels (N,) for the next epoch, from the weights as they are now."""
        folded = self.fold()
        logits = linear(self.target_bank, folded.weight.float(), folded.bias.float())
        if int(self.epoch) % 2 == 0:
            return logits.argmax(-1)
        inner = self.network.fold_bottleneck()
        features = linear(self.target_bank, inner.weight.float(), inner.bias.float())
        return loss.centroid_labels(normalize(features, dim=-1), logits.softmax(-1))

    def deploy(self) -> Deployed:
        """Return the encoder as it came, and the head folded from the weights as they are now."""
        self.eval()
        return super().deploy()

    def train(self, mode: bool = True) -> UniMoS:
        """Switch the network; going to evaluation folds it into the head."""
        if mode and self.training:
            return self  # every iteration asks, and walking through the encoder takes its time
        super().train(mode)
        if not mode and hasattr(self, "prior"):
            folded = self.fold()
            with torch.no_grad():
                self.head.weight.copy_(folded.weight)
                self.head.bias.copy_(folded.bias)
        return self
