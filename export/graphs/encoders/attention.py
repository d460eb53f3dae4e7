"""Build the attention of one token to all others, the last step of both families."""

from __future__ import annotations

import numpy as np

from export.graphs.builder import Graph


def split_heads(weight: np.ndarray, heads: int) -> np.ndarray:
    """Return a key or value matrix (W, C) as (H, W / H, C), a view with the same order."""
    return weight.reshape(heads, -1, weight.shape[1])


def attend(g: Graph, token: str, tokens: str, prefix: str) -> str:
    """Return the attention of one token per image to all tokens, before the output projection.

    With one query the projections move out of the sum over tokens T: the scores are
    `q (K x_t) = (q K) x_t`, and the result is `sum_t a_t V x_t = V (sum_t a_t x_t)`. That is
    the same number with 1 / T of the products. The key's bias adds the same to all scores, so the
    softmax cancels it; the value's bias is added once, since the shares sum to 1.

    Args:
        g: Graph to add to; must hold `q_proj.weight` (W, C), `q_proj.bias`, `k_proj.weight` and
            `v_proj.weight` (H, W / H, C), `v_proj.bias` under `prefix`.
        token: Query token (N, C).
        tokens: Key and value tokens (N, T, C).
        prefix: Prefix of the names of the tensors, with the dot.

    Returns:
        (N, W).
    """
    heads, depth, _ = g.shape(f"{prefix}k_proj.weight")
    dtype = g.dtype(f"{prefix}k_proj.weight")
    weight, bias = g.tensor(f"{prefix}q_proj.weight"), g.tensor(f"{prefix}q_proj.bias")
    query = g.op("Gemm", token, weight, bias, transB=1)
    query = g.op("Mul", query, g.constant(depth**-0.5, dtype))
    query = g.op("Transpose", g.reshape(query, -1, heads, depth), perm=[1, 0, 2])  # (H, N, W/H)
    keyed = g.op("MatMul", query, g.tensor(f"{prefix}k_proj.weight"))  # (H, N, C)
    keyed = g.op("Transpose", keyed, perm=[1, 0, 2])
    share = softmax(g, g.op("MatMul", keyed, g.op("Transpose", tokens, perm=[0, 2, 1])), dtype)
    mixed = g.op("Transpose", g.op("MatMul", share, tokens), perm=[1, 0, 2])  # (H, N, C)
    value = g.op("Transpose", g.tensor(f"{prefix}v_proj.weight"), perm=[0, 2, 1])
    result = g.op("Transpose", g.op("MatMul", mixed, value), perm=[1, 0, 2])  # (N, H, W/H)
    result = g.reshape(result, -1, heads * depth)
    return g.op("Add", result, g.tensor(f"{prefix}v_proj.bias"))


def softmax(g: Graph, scores: str, dtype: np.dtype) -> str:
    """Return the softmax over the last axis, computed in float32 whatever the type of the rest."""
    if dtype == np.float32:
        return g.op("Softmax", scores, axis=-1)
    return g.cast(g.op("Softmax", g.cast(scores, np.float32), axis=-1), dtype)
