"""Deployable forms of CLIP's image towers: one file per family and one line in the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer
from torch import nn

from export.graphs.encoders.base import Form
from export.graphs.encoders.resnet import ResnetForm
from export.graphs.encoders.vit import VitForm
from runtime.errors import BaseModelError

FORMS: dict[type[nn.Module], Callable[[Any, bool], Form]] = {
    ModifiedResNet: ResnetForm,
    VisionTransformer: VitForm,
}
"""Deployable forms by the exact class of the tower."""


def get(visual: nn.Module, *, apart: bool = False) -> Form:
    """Return the deployable form of a loaded image tower.

    Args:
        visual: Image tower; its values are not read.
        apart: Whether to leave each BatchNorm apart from its convolution: slower, but the filters
            on a device are those of the tower, as training on a grid needs them.

    Raises:
        BaseModelError: This kind of tower cannot be deployed.
    """
    if type(visual) not in FORMS:
        raise BaseModelError(
            f"cannot deploy an image tower of type '{type(visual).__name__}'; expected open_clip's "
            f"{' or '.join(sorted(tower.__name__ for tower in FORMS))}; choose an architecture "
            "like ViT-B-16 or RN50"
        )
    return FORMS[type(visual)](visual, apart)
