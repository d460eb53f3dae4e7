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
    """Learning rate at iteration 0, which `Method.schedule` multiplies."""
    optimizer: str = "main"
    """Name of the optimizer. Several may share a parameter, each with its own momentum."""


OptimizerFactory = Callable[[list[dict[str, Any]]], torch.optim.Optimizer]
"""Makes an optimizer of parameter groups, each with its own `lr`."""


def sgd(config: TrainConfig) -> OptimizerFactory:
    """Return a factory of fused SGD with the momentum and weight decay of the settings."""
    return functools.partial(
        torch.optim.SGD,
        momentum=config.momentum,
        nesterov=config.nesterov and config.momentum > 0,
        weight_decay=config.weight_decay,
        fused=True,
    )
