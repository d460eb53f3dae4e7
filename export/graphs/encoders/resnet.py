"""Build the ModifiedResNet of open_clip as a weight-free graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from open_clip.modified_resnet import AttentionPool2d, Bottleneck, ModifiedResNet
from torch import nn

from adapt.optim.grid import float32_names
from export.graphs.builder import Graph
from export.graphs.encoders.attention import attend, split_heads
from runtime.errors import BaseModelError

_BLOCKED = "com.microsoft.nchwc"


class ResnetForm:
    """CLIP's ResNet: three stem convolutions, bottlenecks, attention pooling of one token.

    Every BatchNorm is folded into its convolution on the host, which then has the name
    `<conv>.weight` and `<conv>.bias`; or it stays apart, in float32 at every precision, as
    `<conv>.scale` and `<conv>.shift` (C, 1, 1) after a convolution with the tower's own filters.
    The attention pool's `k_proj.bias` has no effect on the result of one query and is left out.
    """

    def __init__(self, visual: ModifiedResNet, apart: bool = False) -> None:
        """Read the architecture off a loaded tower.

        Args:
            visual: Image tower to read.
            apart: Whether to leave each BatchNorm apart from its convolution.

        Raises:
            BaseModelError: The tower has a layer that this form does not support.
        """
        stages = [visual.layer1, visual.layer2, visual.layer3, visual.layer4]
        if not isinstance(visual.attnpool, AttentionPool2d) or not all(
            type(block) is Bottleneck for stage in stages for block in stage
        ):
            raise BaseModelError(
                "cannot deploy this ModifiedResNet: the export needs bottlenecks and attention "
                "pooling; choose an architecture like RN50"
            )
        self.size = int(visual.image_size)
        self.dim = int(visual.output_dim)
        self.heads = int(visual.attnpool.num_heads)
        self.blocks = {
            f"layer{number}.{index}.": (int(block.stride), block.downsample is not None)
            for number, stage in enumerate(stages, 1)
            for index, block in enumerate(stage)
        }
        self.norms = {
            _conv_of(name): (f"{name}.", float(module.eps))
            for name, module in visual.named_modules()
            if isinstance(module, nn.BatchNorm2d)
        }
        widths = [m.out_channels for m in visual.modules() if isinstance(m, nn.Conv2d)]
        self.apart = apart
        self._exact = float32_names(visual) if apart else frozenset()
        self.blockable = not apart and all(width % 16 == 0 for width in widths)

    def deploy(self, tensors: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Return the deploy tensors of a tower's tensors, both float32; unchanged ones are shared.

        BatchNorm is folded in float64 and rounded once:
        `W' = W g / sqrt(var + eps)`, `b' = beta - mean g / sqrt(var + eps)`. Apart, the factor is
        the scale and b' the shift.
        """
        result: dict[str, NDArray[np.float32]] = {}
        for conv, (norm, epsilon) in self.norms.items():
            gain, bias, mean, var = (
                tensors[norm + part].astype(np.float64)
                for part in ("weight", "bias", "running_mean", "running_var")
            )
            scale = gain / np.sqrt(var + epsilon)
            shift = (bias - mean * scale).astype(np.float32)
            if self.apart:
                result[f"{conv}.weight"] = tensors[f"{conv}.weight"]
                result[f"{conv}.scale"] = scale.astype(np.float32).reshape(-1, 1, 1)
                result[f"{conv}.shift"] = shift.reshape(-1, 1, 1)
            else:
                weight = tensors[f"{conv}.weight"] * scale[:, None, None, None]
                result[f"{conv}.weight"] = weight.astype(np.float32)
                result[f"{conv}.bias"] = shift
        for name, array in tensors.items():
            if not name.startswith("attnpool.") or name == "attnpool.k_proj.bias":
                continue
            split = name in ("attnpool.k_proj.weight", "attnpool.v_proj.weight")
            result[name] = split_heads(array, self.heads) if split else array
        return result

    def stays_float32(self, name: str) -> bool:
        """Return whether a tensor is float32 in every precision: BatchNorm's, where it is apart."""
        deployed = self.apart and name.endswith((".scale", ".shift"))
        return deployed or name in self._exact

    def check_tokens(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Refuse prompt tokens.

        Raises:
            BaseModelError: Always.
        """
        raise BaseModelError(
            f"the task has prompt tokens ({', '.join(sorted(shapes))}), which only a vision "
            "transformer takes; choose a base like ViT-B-16"
        )

    def build(self, g: Graph, image: str, blocked: bool = False) -> str:
        """Add the encoder to a graph.

        Args:
            g: Graph over the deploy tensors at the wanted precision.
            image: Normalised images (N, 3, S, S) of that precision.
            blocked: Write ONNX Runtime's own convolutions for the CPU, whose channels lie in
                blocks and whose filters must be laid out likewise.

        Returns:
            Features (N, D).
        """
        layers = _Blocked(g) if blocked else _Apart(g) if self.apart else _Plain(g)
        x = layers.conv(image, "conv1", stride=2)
        x = layers.conv(layers.conv(x, "conv2"), "conv3")
        x = layers.pool(x, 2)
        for name, (stride, projected) in self.blocks.items():
            skip = x
            if projected:
                skip = layers.conv(layers.pool(x, stride), f"{name}downsample.0", relu=False)
            x = layers.conv(layers.conv(x, f"{name}conv1"), f"{name}conv2")
            x = layers.conv(layers.pool(x, stride), f"{name}conv3", add=skip)
        x = layers.tokens(x)  # (N, T, C)
        mean = g.op("ReduceMean", x, g.constant([1], np.int64), keepdims=1)
        x = g.op("Concat", mean, x, axis=1)
        x = g.op("Add", x, g.tensor("attnpool.positional_embedding"))
        token = g.op("Gather", x, g.constant(0, np.int64), axis=1)
        x = attend(g, token, x, "attnpool.")
        weight, bias = g.tensor("attnpool.c_proj.weight"), g.tensor("attnpool.c_proj.bias")
        return g.op("Gemm", x, weight, bias, transB=1)


class _Plain:
    """Standard operators; every engine can read them."""

    def __init__(self, g: Graph) -> None:
        self.g = g
        self.channels = 0

    def conv(self, x: str, name: str, stride: int = 1, relu: bool = True, add: str = "") -> str:
        """Return `relu(conv(x) + add)`, padded so that the stride alone shrinks the image."""
        x = self.g.op("Conv", x, *self._filter(name), **self._shape(name, stride))
        x = self.g.op("Add", x, add) if add else x
        return self.g.op("Relu", x) if relu else x

    def pool(self, x: str, stride: int) -> str:
        """Return the mean of squares of `stride` pixels."""
        size: dict[str, Any] = {"kernel_shape": [stride] * 2, "strides": [stride] * 2}
        return self.g.op("AveragePool", x, **size) if stride > 1 else x

    def tokens(self, x: str) -> str:
        """Return (N, C, H, W) as (N, H W, C)."""
        return self.g.op("Transpose", self.g.reshape(x, 0, self.channels, -1), perm=[0, 2, 1])

    def _filter(self, name: str) -> tuple[str, str]:
        self.channels = self.g.shape(f"{name}.weight")[0]
        return self.g.tensor(f"{name}.weight"), self.g.tensor(f"{name}.bias")

    def _shape(self, name: str, stride: int) -> dict[str, Any]:
        size = self.g.shape(f"{name}.weight")[2]
        return {"kernel_shape": [size] * 2, "strides": [stride] * 2, "pads": [size // 2] * 4}


class _Apart(_Plain):
    """BatchNorm as two steps in float32, whatever the type of the filters."""

    def conv(self, x: str, name: str, stride: int = 1, relu: bool = True, add: str = "") -> str:
        g, self.channels = self.g, self.g.shape(f"{name}.weight")[0]
        x = g.op("Conv", x, g.tensor(f"{name}.weight"), **self._shape(name, stride))
        x = g.cast(x, np.float32) if g.half else x
        x = g.op("Mul", x, g.tensor(f"{name}.scale"))
        x = g.op("Add", x, g.tensor(f"{name}.shift"))
        x = g.cast(x, np.float16) if g.half else x
        x = g.op("Add", x, add) if add else x
        return g.op("Relu", x) if relu else x


class _Blocked(_Plain):
    """ONNX Runtime's blocked operators, which it writes itself where filters are constant."""

    def conv(self, x: str, name: str, stride: int = 1, relu: bool = True, add: str = "") -> str:
        inputs = (x, *self._filter(name), *([add] if add else []))
        attributes = {**self._shape(name, stride), **({"activation": "Relu"} if relu else {})}
        return self.g.op("Conv", *inputs, domain=_BLOCKED, **attributes)

    def pool(self, x: str, stride: int) -> str:
        size: dict[str, Any] = {"kernel_shape": [stride] * 2, "strides": [stride] * 2}
        return self.g.op("AveragePool", x, domain=_BLOCKED, **size) if stride > 1 else x

    def tokens(self, x: str) -> str:
        x = self.g.op("ReorderOutput", x, domain=_BLOCKED, channels=self.channels, channels_last=1)
        return self.g.reshape(x, 0, -1, self.channels)


def _conv_of(norm: str) -> str:
    """Return the convolution before a BatchNorm: `conv1` for `bn1`, `downsample.0` for `.1`."""
    head, _, tail = norm.rpartition(".")
    conv = "0" if tail == "1" else tail.replace("bn", "conv")
    return f"{head}.{conv}" if head else conv
