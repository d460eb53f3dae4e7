"""UniMoS' trained network over CLIP features, and the one affine map that it is at test time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

DROPOUT = 0.5
"""Share of the discriminator's hidden units that a pass leaves out."""


class Affine(NamedTuple):
    """An affine map `x -> weight x + bias` in float64."""

    weight: Tensor
    """(K, D)."""
    bias: Tensor
    """(K,)."""


class Network(nn.Module):
    """Separators, vision classifier, weight generator and modality discriminator.

    D features, K classes, E units in each hidden layer. The layers and their initial values are
    those of the released code, written so that a step costs less:

    - Both separators are one linear map (2D, D): vision above, language below.
    - Classifier: `gain_k * direction_k / ||direction_k||`, the gain starting at the norm. The
      Xavier values that the released code means to give it never reach it there.
    - The generator has no activation before its sigmoid, so its two maps are multiplied first.
    """

    def __init__(self, dim: int, classes: int, width: int) -> None:
        """Draw all weights with torch's global generator.

        Args:
            dim: D.
            classes: K.
            width: E, 256 in the paper.
        """
        super().__init__()
        self.separators = nn.Linear(dim, 2 * dim)  # each row as torch draws those of (D, D)
        self.bottleneck = nn.Linear(dim, width)
        nn.init.xavier_normal_(self.bottleneck.weight)
        nn.init.zeros_(self.bottleneck.bias)
        self.norm = nn.BatchNorm1d(width)
        direction = nn.Linear(width, classes, bias=False).weight
        self.direction = nn.Parameter(direction.detach())
        self.gain = nn.Parameter(direction.detach().norm(dim=1, keepdim=True))
        self.bias = nn.Parameter(torch.zeros(classes))
        self.generator = nn.ModuleList([nn.Linear(dim, width), nn.Linear(width, 1)])
        self.discriminator = nn.ModuleList([nn.Linear(dim, width), nn.Linear(width, 1)])

    def separate(self, x: Tensor) -> Tensor:
        """Return vision and language side by side, [v; u] (N, 2D), of unit features x (N, D)."""
        pairs: Tensor = self.separators(x)
        return pairs

    def classifier(self) -> Tensor:
        """Return the vision classifier's matrix (K, E)."""
        norms: Tensor = self.direction.norm(dim=1, keepdim=True)
        return self.direction * (self.gain / norms)

    def vision_logits(self, vision: Tensor) -> Tensor:
        """Return o (N, K) of v (N, D); in train mode BatchNorm uses and learns these N rows."""
        hidden = self.norm(self.bottleneck(vision))
        return functional.linear(hidden, self.classifier(), self.bias)

    def vision_weight(self, vision: Tensor) -> Tensor:
        """Return w in (0, 1), the mean over the rows of v (N, D) of the generator, a scalar."""
        first, second = cast(Sequence[nn.Linear], self.generator)
        weight = second.weight @ first.weight  # (1, D)
        bias = second.weight @ first.bias + second.bias
        return functional.linear(vision, weight, bias).sigmoid().mean()

    def tell_apart(self, rows: Tensor, fixed: bool = False) -> Tensor:
        """Return the discriminator's logits (N,) of v or u (N, D): above 0 means language.

        Args:
            rows: (N, D).
            fixed: Let gradients reach the rows, not the discriminator.
        """
        weights = [p.detach() if fixed else p for p in self.discriminator.parameters()]
        hidden = functional.relu(functional.linear(rows, *weights[:2]))
        if self.training:  # torch's own dropout takes three times as long on the CPU
            hidden = hidden * ((torch.rand_like(hidden) >= DROPOUT) / (1 - DROPOUT))
        return functional.linear(hidden, *weights[2:]).squeeze(-1)

    @torch.no_grad()
    def fold_bottleneck(self) -> Affine:
        """Return x to normalised bottleneck features (E, D): separator, linear map, BatchNorm."""
        norm, dim = self.norm, self.separators.in_features
        assert norm.running_mean is not None and norm.running_var is not None
        weight, bias = self.separators.weight.double()[:dim], self.separators.bias.double()[:dim]
        first = self.bottleneck.weight.double()
        scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()  # (E,)
        centre = self.bottleneck.bias.double() - norm.running_mean.double()
        return Affine(
            scale[:, None] * (first @ weight),
            scale * (first @ bias + centre) + norm.bias.double(),
        )

    @torch.no_grad()
    def fold_vision(self) -> Affine:
        """Return x to o: everything of the vision branch is affine in evaluation mode."""
        inner = self.fold_bottleneck()
        direction, gain = self.direction.double(), self.gain.double()
        matrix = direction * (gain / direction.norm(dim=1, keepdim=True))
        return Affine(matrix @ inner.weight, matrix @ inner.bias + self.bias.double())

    @torch.no_grad()
    def fold_language(self, text: Tensor) -> Affine:
        """Return x to `text u` for float64 text features (K, D), already times the temperature."""
        dim = self.separators.in_features
        weight, bias = self.separators.weight.double()[dim:], self.separators.bias.double()[dim:]
        return Affine(text @ weight, text @ bias)

    @torch.no_grad()
    def redraw_generator(self, generator: torch.Generator) -> None:
        """Draw each of the weight generator's four tensors anew with probability 0.5.

        Xavier-uniform weights, biases of 0, as the released code does before every epoch (the paper
        does not mention it). The draws are made on the CPU, whatever the device.
        """
        chosen = torch.rand(4, generator=generator) < 0.5
        for anew, parameter in zip(chosen.tolist(), self.generator.parameters(), strict=True):
            fresh = torch.zeros(parameter.shape)
            if fresh.ndim == 2:
                nn.init.xavier_uniform_(fresh, generator=generator)
            if anew:
                parameter.copy_(fresh)
