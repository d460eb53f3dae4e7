"""Find the state dict of a model in a training checkpoint."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from runtime.errors import BaseModelError

_WRAPPERS = ("state_dict", "model")
"""Keys under which training checkpoints hold a state dict, possibly nested."""
_LAYERS = 4
"""Most levels of such keys."""
_COMPILED = "_orig_mod."
"""Part that torch.compile adds to the names of a compiled model or module."""
_PREFIXES = ("model.", "module.", "model.")
"""Prefixes that Lightning modules and data-parallel training give all names, outermost first."""


def unwrapped(content: object, path: Path) -> dict[str, Tensor]:
    """Return the state dict in the content of a file, with the model's own names.

    Args:
        content: Content of the file.
        path: Path of the file, for messages.

    Raises:
        BaseModelError: The file holds no named tensors, or one of them is not dense.
    """
    for _ in range(_LAYERS):
        for key in _WRAPPERS:
            if isinstance(content, dict) and isinstance(content.get(key), dict):
                content = content[key]
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise BaseModelError(
            f"'{path}' must hold a state dict, found a {type(content).__name__}; save the model's "
            "state_dict()"
        )
    if not any(isinstance(value, Tensor) for value in content.values()):
        keys = ", ".join(repr(key[:40]) for key in sorted(content)[:3]) or "nothing"
        places = " or ".join(repr(key) for key in _WRAPPERS)
        raise BaseModelError(
            f"'{path}' holds {keys}, expected tensors by name, alone or under {places}; save the "
            "model's state_dict() alone"
        )
    state = {name.replace(_COMPILED, ""): tensor for name, tensor in content.items()}
    if len(state) < len(content):
        raise BaseModelError(
            f"'{path}' holds a tensor twice, with and without '{_COMPILED}' in its name; save the "
            "state_dict() of one model"
        )
    for name, tensor in state.items():
        if isinstance(tensor, Tensor) and (odd := _not_dense(tensor)):
            raise BaseModelError(
                f"'{path}': '{name[:200]}' is {odd}, expected a dense tensor with values; save the "
                "state_dict() of a dense model that was loaded whole"
            )
    for prefix in _PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _not_dense(tensor: Tensor) -> str:
    """Return what a tensor is instead of dense; empty if it is dense."""
    if tensor.is_meta:
        return "a tensor without values (device 'meta')"
    if tensor.is_nested:
        return "a nested tensor"
    if tensor.is_quantized:
        return f"a quantised tensor ({tensor.dtype})"
    return "" if tensor.layout == torch.strided else f"a sparse tensor ({tensor.layout})"
