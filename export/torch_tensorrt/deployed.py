"""Build a task's network in PyTorch as its bundle computes it, from pixels to logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from adapt.artifacts.merge import Network
from adapt.optim.grid import float32_names, snap
from runtime.models import Precision, Preprocess


class Deployed(nn.Module):
    """A task's network, from pixels (N, S, S, 3) uint8 to logits (N, K).

    As in a bundle's graphs, `bf16` weights are multiplied as float32, and scaling, normalisation
    and the head are float32 at every precision.
    """

    factor: Tensor
    shift: Tensor

    def __init__(self, network: Network, spec: Preprocess, precision: Precision) -> None:
        """Wrap a network, which is changed in place.

        Args:
            network: Network in evaluation mode, on the CPU.
            spec: Preprocessing, with the size of the images, mean and std.
            precision: Precision of the encoder.
        """
        super().__init__()
        self.size = spec.size
        self.encoder, self.head, self._half = network.encoder, network.head, precision == "fp16"
        mean, std = (torch.tensor(value).view(3, 1, 1) for value in (spec.mean, spec.std))
        self.register_buffer("factor", 1 / (255 * std))
        self.register_buffer("shift", -mean / std)
        snap(self.encoder, precision)
        if self._half:
            _halve(self.encoder)
        self.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the logits, float32."""
        # TensorRT takes uint8 into a cast and nowhere else.
        images = pixels.to(torch.float32).permute(0, 3, 1, 2) * self.factor + self.shift
        features = self.encoder(images.half() if self._half else images)
        logits: Tensor = self.head(features.float())
        return logits


def exported(model: Deployed, most: int) -> ExportedProgram:
    """Return the graph that torch.export makes of a network, with a variable batch size.

    Args:
        model: Network to export.
        most: Largest batch, 2 or more.

    Raises:
        Exception: Any error of torch.export.
    """
    # Two frames: the graph of a single one would be for single ones.
    pixels = torch.zeros(2, model.size, model.size, 3, dtype=torch.uint8)
    shapes = {"pixels": {0: Dim("batch", min=1, max=most)}}
    return torch.export.export(model, (pixels,), dynamic_shapes=shapes, strict=False)


def _halve(encoder: nn.Module) -> None:
    """Convert an encoder to float16, except its normalisations, which stay float32."""

    def up(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (inputs[0].float(), *inputs[1:])

    def down(module: nn.Module, inputs: tuple[Any, ...], result: Tensor) -> Tensor:
        return result.half()

    norms = {name.rpartition(".")[0] for name in float32_names(encoder)}
    encoder.half()
    for name in norms:
        norm = encoder.get_submodule(name).float()
        norm.register_forward_pre_hook(up)
        norm.register_forward_hook(down)
