"""Load the base of an artifact, and put the residual into it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from adapt.clip import model as base_models
from adapt.clip.model import Clip, encoder_tensors
from adapt.methods.heads import head_dim
from adapt.optim.grid import GRIDS, Grid, float32_names, on_grid, visible_share
from runtime import patch
from runtime.errors import BaseModelError, FormatError
from runtime.models import BaseModel
from runtime.storage.digest import tensors_sha256

if TYPE_CHECKING:
    from adapt.artifacts.artifact import Artifact


def same_base(one: BaseModel, other: BaseModel) -> bool:
    """Return whether two bases compute the same.

    The digest covers the weights alone; the activation follows from the architecture.
    """
    return (one.architecture, one.sha256) == (other.architecture, other.sha256)


def load_base(
    artifact: Artifact,
    pretrained: str | Path | None = None,
    device: str = "cpu",
    advice: str = "--pretrained FILE",
) -> Clip:
    """Return the base model of an artifact.

    Args:
        artifact: Artifact that names architecture and weights.
        pretrained: File of the weights, if they are not where training found them.
        device: Device that the model is moved to.
        advice: Option that names other weights, for messages.

    Raises:
        BaseModelError: The weights are missing, or are not those of training.
        BackendError: The device cannot be used.
    """
    clip = base_models.load(
        artifact.architecture or artifact.base.architecture,
        str(pretrained or artifact.config["pretrained"]),
        device,
        advice,
    )
    if not same_base(clip.info, artifact.base):
        raise BaseModelError(
            f"task '{artifact.task.id}' was trained on {base_text(artifact.base)}, but these "
            f"weights make {base_text(clip.info)}; pass the right ones with {advice}, or train "
            "again"
        )
    return clip


def base_text(base: BaseModel) -> str:
    """Return a base model for messages: architecture, weights and the start of their digest."""
    return f"{base.architecture}/{base.pretrained} (sha256 {base.sha256[:12]}...)"


def merged(clip: Clip, artifact: Artifact) -> dict[str, NDArray[np.float32]]:
    """Return the encoder's tensors with the residual in place, bit for bit those of training.

    Where training was on a grid, the base's own values are rounded to it, as training saw them.

    Args:
        clip: Base model, its encoder untouched.
        artifact: Artifact to merge.

    Raises:
        BaseModelError: The artifact belongs to another base, or the encoder was changed in memory.
        FormatError: The artifact does not fit the base it names.
    """
    own, needed = clip.info, artifact.base
    if not same_base(own, needed):
        raise BaseModelError(
            f"artifact '{artifact.task.id}' was trained on {base_text(needed)}, but this base is "
            f"{base_text(own)}; pass the base it was trained on, or train again"
        )
    tensors = encoder_tensors(clip.visual)
    if tensors_sha256(tensors) != own.sha256:
        raise BaseModelError(
            f"the encoder of {own.architecture}/{own.pretrained} has changed since it was "
            "loaded; load the base model again"
        )
    for name, shape in artifact.shapes.items():
        found = tensors[name].shape if name in tensors else None
        if found != shape:
            raise FormatError(f"the artifact changes '{name}' {shape}; the base has {found}")
    dim = head_dim(artifact.head, artifact.head_tensors)
    if dim != clip.dim:
        raise FormatError(f"the artifact's head takes {dim} features, the encoder gives {clip.dim}")
    return patch.merge(on_grid(tensors, clip.visual, artifact.config["grid"]), artifact.residual)


def survival(clip: Clip, artifact: Artifact) -> dict[Grid, float]:
    """Return the share of the changed weights that an export at each precision keeps.

    Args:
        clip: Base model of the artifact.
        artifact: Artifact whose residual fits the base.
    """
    exact = float32_names(clip.visual)
    # BatchNorm is folded into the filters, unless the task was trained on a grid.
    folded = any(isinstance(module, _BatchNorm) for module in clip.visual.modules())
    if folded and artifact.config["grid"] == "fp32":
        exact = frozenset()
    tensors = encoder_tensors(clip.visual)
    found = artifact.residual
    return {grid: visible_share(tensors, found, grid, exact.__contains__) for grid in GRIDS}


def load_merged(clip: Clip, artifact: Artifact) -> nn.Module:
    """Return a copy of the encoder that carries the residual, and its prompt tokens if it has any.

    `clip` stays as it is.

    Raises:
        BaseModelError: The artifact belongs to another base.
        FormatError: The artifact does not fit the base it names.
    """
    encoder = _with_tensors(clip.visual, merged(clip, artifact))
    if artifact.tokens:
        from adapt.clip.prompts import Prompted

        tokens = {name: torch.from_numpy(token) for name, token in artifact.tokens.items()}
        return Prompted(encoder, tokens).eval()
    return encoder.eval()


def untouched(clip: Clip, reference: Mapping[str, NDArray[np.float32]]) -> Clip:
    """Return a base model whose encoder was trained, with its encoder as it was before.

    Args:
        clip: Base model, which stays as it is.
        reference: `encoder_tensors` of the encoder before it was trained.
    """
    return replace(clip, visual=_with_tensors(clip.visual, reference).eval())


def _with_tensors(encoder: nn.Module, tensors: Mapping[str, NDArray[np.float32]]) -> nn.Module:
    """Return a copy of an encoder with other values of its parameters and buffers."""
    made = copy.deepcopy(encoder)
    own = {**dict(made.named_parameters()), **dict(made.named_buffers())}
    with torch.no_grad():
        for name, array in tensors.items():
            own[name].copy_(torch.from_numpy(array))
    return made


class Network(nn.Module):
    """Encoder and head of a task: normalised images (N, 3, S, S) to logits (N, K)."""

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        """Take the parts."""
        super().__init__()
        self.encoder, self.head = encoder, head

    @classmethod
    def of(cls, clip: Clip, artifact: Artifact) -> Network:
        """Return an artifact's network on its base, in evaluation mode on the CPU.

        Raises:
            BaseModelError: The artifact belongs to another base.
            FormatError: The artifact does not fit the base it names.
        """
        return cls(load_merged(clip, artifact), artifact.build_head()).eval()

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits; the head computes in float32."""
        logits: Tensor = self.head(self.encoder(images).float())
        return logits
