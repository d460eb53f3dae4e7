"""Groups of parameters with one learning rate, and the default optimizer over them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from adapt.settings.config import TrainConfig


@dataclass(frozen=True)
class Group:
    """Parameters with one learning rate, in one optimizer."""

    parameters: tuple[nn.Parameter, ...]
    lr: float
    """At iteration 0; `Method.schedule` multiplies it."""
    optimizer: str = "main"
    """A parameter may stand in several optimizers; each keeps its own momentum."""


OptimizerFactory = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]
"""From parameter groups, each with its own `lr`, to an optimizer."""


def sgd(config: TrainConfig) -> OptimizerFactory:
    """Return what makes SGD with the momentum and weight decay of the settings, torch's fused."""
    return functools.partial(
        torch.optim.SGD,
        momentum=config.momentum,
        nesterov=config.nesterov and config.momentum > 0,
        weight_decay=config.weight_decay,
        fused=True,
    )
