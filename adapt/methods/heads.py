"""Heads: small networks from image features (N, D) to logits (N, K)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from runtime.errors import FormatError


class TaskHead(nn.Module):
    """CMKD's trained head: BatchNorm, LayerNorm, linear map without bias (arXiv:2408.02192).

    As in the released code. While training, BatchNorm uses the statistics of each batch, and its
    running ones become a mixture of source and target.
    """

    kind: ClassVar[str] = "bn-ln-linear"
    weight_name: ClassVar[str] = "linear.weight"

    def __init__(self, dim: int, classes: int) -> None:
        """Draw the linear map from N(0, 0.001^2) with torch's global generator.

        Args:
            dim: Number of features D.
            classes: Number of classes K.
        """
        super().__init__()
        self.bn = nn.BatchNorm1d(dim)
        self.bn.bias.requires_grad_(False)  # stays 0, as in the released code
        self.ln = nn.LayerNorm(dim, eps=1e-6)
        self.linear = nn.Linear(dim, classes, bias=False)
        nn.init.normal_(self.linear.weight, std=0.001)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (N, K) of features (N, D), which need not be normalised."""
        logits: Tensor = self.linear(self.ln(self.bn(features)))
        return logits


class CosineHead(nn.Module):
    """CLIP's zero-shot classifier: cosine to each class prompt, times the logit scale."""

    kind: ClassVar[str] = "cosine"
    weight_name: ClassVar[str] = "weight"
    weight: Tensor
    """(K, D) text features of unit length times the logit scale."""

    def __init__(self, dim: int, classes: int) -> None:
        """Make a head of zeros; `of` fills one.

        Args:
            dim: Number of features D.
            classes: Number of classes K.
        """
        super().__init__()
        self.register_buffer("weight", torch.zeros(classes, dim))

    @classmethod
    def of(cls, text_features: Tensor, logit_scale: float) -> CosineHead:
        """Return the head of unit text features (K, D) and a logit scale (100 in OpenAI's CLIP)."""
        head = cls(text_features.shape[1], text_features.shape[0])
        head.weight = text_features.detach().float() * logit_scale
        return head.eval()

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (N, K) of features (N, D), which need not be normalised."""
        return normalize(features, dim=-1) @ self.weight.T


class AffineHead(nn.Module):
    """L2 norm and one affine map: a linear probe, and all that UniMoS is at test time."""

    kind: ClassVar[str] = "affine"
    weight_name: ClassVar[str] = "weight"
    weight: Tensor
    """(K, D)."""
    bias: Tensor
    """(K,)."""

    def __init__(self, dim: int, classes: int, trained: bool = True) -> None:
        """Make a head of zeros.

        Args:
            dim: Number of features D.
            classes: Number of classes K.
            trained: Whether its tensors are parameters, or buffers for a method to set.
        """
        super().__init__()
        for name, shape in (("weight", (classes, dim)), ("bias", (classes,))):
            if trained:
                self.register_parameter(name, nn.Parameter(torch.zeros(shape)))
            else:
                self.register_buffer(name, torch.zeros(shape))

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (N, K) of features (N, D), which need not be normalised."""
        return linear(normalize(features, dim=-1), self.weight, self.bias)


class ProjectorHead(nn.Module):
    """EKDA's student head: a small network into the teacher's space, then cosine to its classes.

    Linear, BatchNorm, ReLU, linear, with torch's default initialisation; PromptKD's, whose 1x1
    convolutions are these linear maps.
    """

    kind: ClassVar[str] = "projector-cosine"
    weight_name: ClassVar[str] = "weight"
    input_name: ClassVar[str] = "proj1.weight"
    weight: Tensor
    """(K, E) the teacher's text features of unit length times the student's logit scale."""

    def __init__(self, dim: int, classes: int, width: int) -> None:
        """Draw the network with torch's global generator; the class centres are zero.

        Args:
            dim: Number of features D.
            classes: Number of classes K.
            width: Number of the teacher's features E.
        """
        super().__init__()
        self.proj1 = nn.Linear(dim, width)
        self.bn = nn.BatchNorm1d(width)
        self.proj2 = nn.Linear(width, width)
        self.register_buffer("weight", torch.zeros(classes, width))

    def project(self, features: Tensor) -> Tensor:
        """Return rows of unit length (N, E) in the teacher's space, of features (N, D)."""
        return normalize(self.proj2(self.bn(self.proj1(features)).relu()), dim=-1)

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (N, K) of features (N, D), which need not be normalised."""
        return self.project(features) @ self.weight.T


Head = TaskHead | CosineHead | AffineHead | ProjectorHead
HEADS: dict[str, type[Head]] = {
    head.kind: head for head in (TaskHead, CosineHead, AffineHead, ProjectorHead)
}
"""Kind to class. A head is built as `Class(dim, classes)`, a projector with its width besides."""


def head_tensors(head: nn.Module) -> dict[str, NDArray[np.float32]]:
    """Return fresh copies of a head's floating tensors by name, `num_batches_tracked` left out."""
    return {
        name: np.array(tensor.detach().cpu().float().numpy())
        for name, tensor in head.state_dict().items()
        if tensor.is_floating_point()
    }


def head_dim(kind: str, tensors: Mapping[str, NDArray[np.float32]]) -> int:
    """Return how many features D a head takes.

    Args:
        kind: A key of `HEADS`.
        tensors: Tensors of the head by name.

    Raises:
        FormatError: The tensor that says so is missing or not a matrix.
    """
    cls = HEADS[kind]
    name = cls.input_name if issubclass(cls, ProjectorHead) else cls.weight_name
    first = tensors.get(name)
    if first is None or first.ndim != 2 or 0 in first.shape:
        raise FormatError(f"head '{kind}' needs a tensor '{name}' (outputs, features)")
    return int(first.shape[1])


def build_head(kind: str, tensors: Mapping[str, NDArray[np.float32]]) -> nn.Module:
    """Return a head in evaluation mode, with the class and feature counts that the tensors have.

    Raises:
        FormatError: The kind is unknown; a tensor is missing, extra, misshapen or not finite.
    """
    if kind not in HEADS:
        raise FormatError(f"unknown head kind '{kind[:40]}'; available: {', '.join(sorted(HEADS))}")
    cls = HEADS[kind]
    weight = tensors.get(cls.weight_name)
    if weight is None or weight.ndim != 2 or 0 in weight.shape:
        raise FormatError(f"head '{kind}' needs a tensor '{cls.weight_name}' (classes, features)")
    sizes = (head_dim(kind, tensors), *weight.shape)  # the last is ProjectorHead's alone
    with torch.random.fork_rng(devices=[]):  # the first weights are overwritten: draw none for them
        head = cls(*sizes) if cls is ProjectorHead else cls(*sizes[:2])
    needed = head_tensors(head)
    if needed.keys() != tensors.keys():
        name = sorted(needed.keys() ^ tensors.keys())[0]
        raise FormatError(f"head '{kind}' has a missing or an extra tensor '{name}'")
    for name, tensor in tensors.items():
        if tensor.dtype != np.float32 or tensor.shape != needed[name].shape:
            raise FormatError(
                f"head tensor '{name}' must be float32{needed[name].shape}, found "
                f"{tensor.dtype}{tensor.shape}"
            )
        if not bool(np.isfinite(tensor).all()):
            raise FormatError(f"head tensor '{name}' holds a value that is not finite")
    if "bn.running_var" in tensors and float(tensors["bn.running_var"].min()) < 0:
        raise FormatError("head tensor 'bn.running_var' holds a negative variance")
    with torch.no_grad():
        state = head.state_dict()
        for name, tensor in tensors.items():
            state[name].copy_(torch.from_numpy(np.array(tensor)))
    return head.eval()
