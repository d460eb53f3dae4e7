"""Build the VisionTransformer of open_clip as a weight-free graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from open_clip.transformer import (
    LayerNorm,
    LayerNormFp32,
    QuickGELU,
    ResidualAttentionBlock,
    VisionTransformer,
)
from torch import nn

from adapt.optim.grid import float32_names
from export.graphs.builder import Graph
from export.graphs.encoders.attention import attend, softmax, split_heads
from runtime.errors import BaseModelError

_NORMS = (LayerNorm, LayerNormFp32, nn.LayerNorm)


class VitForm:
    """A class-token ViT. Tokens of all images lie in one matrix, so every map is one Gemm.

    After the last block's attention only the class token is computed. The deploy tensors are
    open_clip's own, except that the last block's packed `in_proj` is cut into `q_proj`, `k_proj`
    and `v_proj`, whose bias of the key has no effect and is left out.
    """

    blockable = False

    def __init__(self, visual: VisionTransformer, apart: bool = False) -> None:
        """Read the architecture off a loaded tower.

        Args:
            visual: Image tower to read.
            apart: Ignored: there is no BatchNorm to fold.

        Raises:
            BaseModelError: The tower has a layer that this form does not support.
        """
        blocks = list(visual.transformer.resblocks)
        known = {
            "no attentional pooling": visual.attn_pool is None,
            "the class token as its output": visual.pool_type == "tok" and not visual.output_tokens,
            "square images": len({*visual.image_size}) == 1,
            "square patches": len({*visual.patch_size}) == 1,
            "plain residual blocks": all(_is_plain(block) for block in blocks) and bool(blocks),
            "an output projection": visual.proj is not None,
            "LayerNorm": isinstance(visual.ln_post, _NORMS)
            and isinstance(visual.ln_pre, (*_NORMS, nn.Identity)),
        }
        for what, holds in known.items():
            if not holds:
                raise BaseModelError(
                    f"cannot deploy this VisionTransformer: the export needs {what}; "
                    "choose an architecture like ViT-B-16"
                )
        self.size = int(visual.image_size[0])
        self.patch = int(visual.patch_size[0])
        self.width, self.dim = (int(length) for length in visual.proj.shape)
        self.heads = int(blocks[0].attn.num_heads)
        self.depth = len(blocks)
        self.quick = isinstance(blocks[0].mlp.gelu, QuickGELU)
        self.normed_input = not isinstance(visual.ln_pre, nn.Identity)
        self.epsilon = float(visual.ln_post.eps)
        self._exact = float32_names(visual)

    @property
    def _last(self) -> str:
        return f"transformer.resblocks.{self.depth - 1}."

    def deploy(self, tensors: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Return the deploy tensors of a tower's tensors, both float32, the same memory."""
        weight, bias = f"{self._last}attn.in_proj_weight", f"{self._last}attn.in_proj_bias"
        result: dict[str, NDArray[np.float32]] = {}
        for name, array in tensors.items():
            if name == weight:
                query, key, value = np.split(array, 3)
                result[f"{self._last}attn.q_proj.weight"] = query
                result[f"{self._last}attn.k_proj.weight"] = split_heads(key, self.heads)
                result[f"{self._last}attn.v_proj.weight"] = split_heads(value, self.heads)
            elif name == bias:
                query, _, value = np.split(array, 3)
                result[f"{self._last}attn.q_proj.bias"] = query
                result[f"{self._last}attn.v_proj.bias"] = value
            else:
                result[name] = array
        return result

    def stays_float32(self, name: str) -> bool:
        """Return whether a tensor is float32 in every precision: those of LayerNorm are."""
        return name in self._exact

    def check_tokens(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Check the shapes of prompt tokens, by names `prompts.<block>`.

        Raises:
            BaseModelError: They do not fit this tower or each other.
        """
        names = [_prompts(index) for index in range(self.depth)]
        first = shapes.get(names[0], ())
        fits = len(first) == 2 and first[0] > 0 and first[1] == self.width
        same = set(shapes.values()) == {first} and shapes.keys() <= {*names}
        if not fits or not same:
            raise BaseModelError(
                f"the task has prompt tokens {dict(sorted(shapes.items()))}; this base takes "
                f"'{names[0]}' (n, {self.width}), and the same for others of its {self.depth} "
                "blocks; train the task again on this base"
            )

    def build(self, g: Graph, image: str, blocked: bool = False) -> str:
        """Add the encoder to a graph.

        Where the graph holds prompt tokens `prompts.<block>` (n, W), they stand right after the
        class token: those of block 0 join before the first norm, those of a later block replace
        the outputs of the earlier ones.

        Args:
            g: Graph over the deploy tensors at the wanted precision.
            image: Normalised images (N, 3, S, S) of that precision.
            blocked: Ignored: not `blockable`.

        Returns:
            Features (N, D).
        """
        width = self.width
        grid = self.size // self.patch
        prompts = g.shape(_prompts(0))[0] if g.has(_prompts(0)) else 0
        length = 1 + prompts + grid * grid
        size: dict[str, Any] = {"kernel_shape": [self.patch] * 2, "strides": [self.patch] * 2}
        x = g.op("Conv", image, g.tensor("conv1.weight"), **size)
        x = g.op("Transpose", g.reshape(x, 0, width, grid * grid), perm=[0, 2, 1])
        # Empty tokens in front, and class embedding and prompts in the first rows of the positions:
        # no need to ask for the batch size.
        x = g.op("Pad", x, g.constant([0, 1 + prompts, 0, 0, 0, 0], np.int64))
        first = g.reshape(g.tensor("class_embedding"), 1, width)
        first = g.op("Pad", first, g.constant([0, 0, grid * grid, 0], np.int64))
        rows = g.op("Add", g.tensor("positional_embedding"), first)
        if prompts:
            first, others = _rows(g, rows, 0, 1), _rows(g, rows, 1, 1 + grid * grid)
            rows = g.op("Concat", first, g.tensor(_prompts(0)), others, axis=0)
        x = g.reshape(g.op("Add", x, rows), -1, width)  # (N T, W)
        if self.normed_input:
            x = self._norm(g, x, "ln_pre.")
        for index in range(self.depth):
            name = f"transformer.resblocks.{index}."
            if index and g.has(_prompts(index)):
                x = self._replace(g, g.reshape(x, -1, length, width), index, prompts, length)
            y = self._norm(g, x, f"{name}ln_1.")
            if index < self.depth - 1:
                y = self._attention(g, y, f"{name}attn.", length)
            else:
                tokens = g.reshape(y, -1, length, width)
                x = self._class_token(g, g.reshape(x, -1, length, width))
                y = attend(g, self._class_token(g, tokens), tokens, f"{name}attn.")
            x = g.op("Add", x, _linear(g, y, f"{name}attn.out_proj."))
            y = _linear(g, self._norm(g, x, f"{name}ln_2."), f"{name}mlp.c_fc.")
            x = g.op("Add", x, _linear(g, self._activation(g, y, name), f"{name}mlp.c_proj."))
        return g.op("MatMul", self._norm(g, x, "ln_post."), g.tensor("proj"))

    def _replace(self, g: Graph, x: str, index: int, prompts: int, length: int) -> str:
        """Return (N T, W) of tokens (N, T, W) after a block's prompts took their places."""
        # The class token over empty ones, plus an empty token over the prompts.
        first = _rows(g, x, 0, 1, axis=1)
        first = g.op("Pad", first, g.constant([0, 0, 0, 0, prompts, 0], np.int64))
        own = g.op("Pad", g.tensor(_prompts(index)), g.constant([1, 0, 0, 0], np.int64))
        patches = _rows(g, x, 1 + prompts, length, axis=1)
        x = g.op("Concat", g.op("Add", first, own), patches, axis=1)
        return g.reshape(x, -1, self.width)

    def _class_token(self, g: Graph, tokens: str) -> str:
        return g.op("Gather", tokens, g.constant(0, np.int64), axis=1)

    def _norm(self, g: Graph, x: str, name: str) -> str:
        x = g.cast(x, np.float32) if g.half else x
        weight, bias = g.tensor(f"{name}weight"), g.tensor(f"{name}bias")
        x = g.op("LayerNormalization", x, weight, bias, axis=-1, epsilon=self.epsilon)
        return g.cast(x, np.float16) if g.half else x

    def _attention(self, g: Graph, y: str, name: str, tokens: int) -> str:
        """Return all tokens' attention to all, (N T, W), before the output projection."""
        packed, width = g.shape(f"{name}in_proj_weight")
        depth, dtype = width // self.heads, g.dtype(f"{name}in_proj_weight")
        weight, bias = g.tensor(f"{name}in_proj_weight"), g.tensor(f"{name}in_proj_bias")
        y = g.op("Gemm", y, weight, bias, transB=1)
        y = g.reshape(y, -1, tokens, packed // width, self.heads, depth)
        y = g.op("Transpose", y, perm=[2, 0, 3, 1, 4])  # (3, N, H, T, W / H)
        query, key, value = (
            g.op("Gather", y, g.constant(part, np.int64), axis=0) for part in range(3)
        )
        query = g.op("Mul", query, g.constant(depth**-0.5, dtype))
        scores = g.op("MatMul", query, g.op("Transpose", key, perm=[0, 1, 3, 2]))
        y = g.op("MatMul", softmax(g, scores, dtype), value)
        return g.reshape(g.op("Transpose", y, perm=[0, 2, 1, 3]), -1, width)

    def _activation(self, g: Graph, y: str, name: str) -> str:
        dtype = g.dtype(f"{name}mlp.c_fc.weight")

        def scalar(value: float) -> Any:
            return g.constant(value, dtype)

        if self.quick:
            return g.op("Mul", y, g.op("Sigmoid", g.op("Mul", y, scalar(1.702))))
        z = g.op("Add", g.op("Erf", g.op("Div", y, scalar(2**0.5))), scalar(1))
        return g.op("Mul", g.op("Mul", y, z), scalar(0.5))


def _prompts(block: int) -> str:
    """Return the name of a block's prompt tokens."""
    return f"prompts.{block}"


def _rows(g: Graph, x: str, start: int, end: int, axis: int = 0) -> str:
    """Return the rows from `start` to before `end` along an axis."""
    return g.op("Slice", x, *(g.constant([value], np.int64) for value in (start, end, axis)))


def _linear(g: Graph, x: str, name: str) -> str:
    # Weights that are inputs are packed at every call. As torch stores them (out, in) that costs
    # 3 to 8 % of ViT-B/16 on two or one CPU threads; transposed on the host, 9 to 18 %.
    return g.op("Gemm", x, g.tensor(f"{name}weight"), g.tensor(f"{name}bias"), transB=1)


def _is_plain(block: nn.Module) -> bool:
    """Return whether a block is attention and an MLP, pre-normalised, without layer scale."""
    if type(block) is not ResidualAttentionBlock:
        return False
    mlp: Any = block.mlp
    attention: Any = block.attn
    act = mlp.gelu
    return (
        isinstance(act, QuickGELU) or (type(act) is nn.GELU and act.approximate == "none")
    ) and all(
        (
            isinstance(block.ls_1, nn.Identity),
            isinstance(block.ls_2, nn.Identity),
            attention.in_proj_weight is not None,
            attention.in_proj_bias is not None,
            isinstance(block.ln_1, _NORMS),
            isinstance(block.ln_2, _NORMS),
        )
    )
