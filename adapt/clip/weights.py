"""Read pretrained CLIP weights, and fill a model with them after checking every tensor."""

from __future__ import annotations

import hashlib
import io
import math
import pickle
import re
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.convert import convert_state_dict
from open_clip.model import convert_to_custom_text_state_dict
from safetensors.torch import load
from torch import Tensor, nn

from adapt.clip.unwrap import unwrapped
from adapt.settings.architectures import SUFFIXES, check_weights
from runtime.errors import BaseModelError
from runtime.storage.header import read_header

MAX_RATIO, FREE_BYTES = 2, 1 << 20
"""Most bytes that a byte of an archive may unpack to, and bytes that any archive may unpack to."""
OPENAI_KEYS = ("input_resolution", "context_length", "vocab_size")
"""Entries that only OpenAI's own files have; they hold no weights."""
OPENAI_ARCHIVES = frozenset(
    found.group(1)
    for architecture, tag in open_clip.list_pretrained()
    if (url := open_clip.get_pretrained_cfg(architecture, tag).get("url"))
    and (found := re.search(r"openaipublic\.azureedge\.net/.*/([0-9a-f]{64})/", url))
)
"""SHA-256 of the TorchScript archives that OpenAI released, as open_clip's table names them."""

_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Floating types that weights may have."""
_AXES = 8
"""Most axes of a tensor that a message shows."""


@dataclass(frozen=True)
class Weights:
    """The content of a weights file."""

    state: dict[str, Tensor]
    openai: bool
    """The file is OpenAI's own, so the model was trained with QuickGELU."""


def tag_config(architecture: str, tag: str) -> dict[str, Any]:
    """Return open_clip's configuration of a pretrained tag; empty for an unknown one."""
    config: dict[str, Any] = open_clip.get_pretrained_cfg(architecture, tag)
    return config


def read(path: Path, advice: str = "--set pretrained=PATH") -> Weights:
    """Read a weights file without running code from a stranger.

    Takes safetensors and pickled state dicts of tensors (open_clip's, also inside a training
    checkpoint, or of a compiled or data-parallel model). A TorchScript archive brings code that
    loading runs, so it must be one that OpenAI released, by its SHA-256.

    Args:
        path: Weights file.
        advice: Option that names another file, for messages.

    Raises:
        BaseModelError: The file is missing, damaged, holds no tensors by name, or is a TorchScript
            archive of anybody else.
    """
    check_weights(str(path), advice)
    if path.suffix.lower() not in SUFFIXES:
        raise BaseModelError(
            f"'{path}' is not a weights file; its name must end in {', '.join(SUFFIXES)}"
        )
    if path.stat().st_size == 0:
        raise BaseModelError(
            f"cannot read the weights file '{path}': it is empty; fetch or copy it again"
        )
    archive = _is_torchscript(path)
    if archive:
        _check_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of TorchScript and of odd tensors
            content = _content(path, archive)
    except Exception as error:  # pickle, zip, safetensors and TorchScript share no base class
        why = f"{reason(error)}; fetch or copy it again"
        if isinstance(error, pickle.UnpicklingError):  # torch advises to run the code in it
            why = (
                "it is damaged or holds more than tensors; only state dicts of tensors are read, "
                "as a pickle can run code: fetch it again, or save the model's state_dict() alone"
            )
        raise BaseModelError(f"cannot read the weights file '{path}': {why}") from error
    state = unwrapped(content, path)
    openai = archive or any(key in state for key in OPENAI_KEYS)
    for key in OPENAI_KEYS:
        state.pop(key, None)
    return Weights(state, openai)


def fill(model: nn.Module, state: dict[str, Tensor], where: str) -> None:
    """Put a state dict into an open_clip model, after checking every tensor.

    Unlike open_clip, position embeddings of another size are refused, not resized.

    Args:
        model: Filled in place.
        state: Tensors by name, of any floating type.
        where: Name of the state dict, for messages.

    Raises:
        BaseModelError: A tensor is missing, extra, misshapen, not floating or not finite.
    """
    state = _converted(model, state, where)
    own = model.state_dict()
    advice = "pass the weights of that architecture"
    for what, names in (("lacks", own.keys() - state.keys()), ("has", state.keys() - own.keys())):
        if names:
            others = f" and {len(names) - 1} more" if len(names) > 1 else ""
            unknown = ", which the model does not have" if what == "has" else ""
            raise BaseModelError(f"{where} {what} '{min(names)}'{others}{unknown}; {advice}")
    for name, needed in own.items():
        tensor = state[name]
        if not isinstance(tensor, Tensor) or (
            needed.is_floating_point() and not tensor.is_floating_point()
        ):
            kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise BaseModelError(f"{where}: '{name}' must be a floating type, found {kind}")
        if needed.is_floating_point() and tensor.dtype not in _TYPES:
            raise BaseModelError(
                f"{where}: '{name}' is of type {tensor.dtype}, expected float16, bfloat16, float32 "
                "or float64; save the state dict with each tensor as .float()"
            )
        if tensor.shape != needed.shape:
            found, wanted = tuple(tensor.shape[:_AXES]), tuple(needed.shape)
            more = f" and {tensor.ndim - _AXES} more axes" if tensor.ndim > _AXES else ""
            raise BaseModelError(
                f"{where}: '{name}' must be {wanted}, found {found}{more}; {advice}"
            )
        if not bool(tensor.isfinite().all()):
            raise BaseModelError(
                f"{where}: '{name}' holds a value that is not finite; fetch the file again"
            )
    model.load_state_dict(state)


def reason(error: Exception) -> str:
    """Return a foreign exception as one short line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _converted(model: nn.Module, state: dict[str, Tensor], where: str) -> dict[str, Tensor]:
    """Return the tensors under the model's own names, as open_clip's `load_checkpoint` does it."""
    try:
        state = convert_state_dict(model, dict(state))
    except Exception as error:  # Apple's layout, recognised by one name but not whole
        raise BaseModelError(f"{where}: cannot convert the tensors: {reason(error)}") from error
    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    state.pop("text.transformer.embeddings.position_ids", None)  # old transformers' constant
    own = model.state_dict()
    for name, tensor in own.items():
        # BatchNorm's counter, which nothing reads, and a bias that older losses did not have
        if name.endswith("num_batches_tracked") or name == "logit_bias":
            state.setdefault(name, torch.zeros_like(tensor))
    for name in ("logit_scale", "logit_bias"):  # saved as () by some and as (1,) by others
        found = state.get(name)
        if name in own and isinstance(found, Tensor) and found.numel() == 1:
            state[name] = found.reshape(own[name].shape)
    return state


def _content(path: Path, archive: bool) -> object:
    if path.suffix.lower() == ".safetensors":
        # Read and not mapped: a mapped file that is truncated kills the process.
        content = path.read_bytes()
        read_header(io.BytesIO(content))
        return load(content)
    _check_inflated(path)
    if archive:
        return torch.jit.load(str(path), map_location="cpu").state_dict()
    return torch.load(path, map_location="cpu", weights_only=True)


def _check_inflated(path: Path) -> None:
    """Check the decompressed size of an archive, in which torch compresses nothing.

    Raises:
        ValueError: The archive unpacks to too many bytes.
    """
    try:
        with zipfile.ZipFile(path) as file:
            inside = sum(each.file_size for each in file.infolist())
    except zipfile.BadZipFile:  # an older pickle, which is not compressed
        return
    size = path.stat().st_size
    most = MAX_RATIO * size + FREE_BYTES
    if inside > most:
        raise ValueError(f"its {size} bytes unpack to {inside}, expected at most {most}")


def _check_archive(path: Path) -> None:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    found = digest.hexdigest()
    if found not in OPENAI_ARCHIVES:
        raise BaseModelError(
            f"'{path}' is a TorchScript archive with SHA-256 {found[:12]}..., none of the "
            f"{len(OPENAI_ARCHIVES)} that OpenAI released; loading it would run its code: where "
            "you trust it, save its state_dict() as safetensors, and pass that file"
        )


def _is_torchscript(path: Path) -> bool:
    """Tell an archive with code from a pickled state dict; `torch.load` refuses the former."""
    try:
        with zipfile.ZipFile(path) as file:
            return any(name.endswith("/constants.pkl") for name in file.namelist())
    except (OSError, ValueError, zipfile.BadZipFile):
        return False


def logit_scale(model: nn.Module, what: str) -> float:
    """Return the factor that multiplies a model's cosine similarities.

    Args:
        model: CLIP with its weights.
        what: Name of the weights, for messages.

    Raises:
        BaseModelError: The factor is not finite.
    """
    logarithm = torch.as_tensor(model.logit_scale).detach()
    scale = float(logarithm.exp())
    if not math.isfinite(scale):
        raise BaseModelError(
            f"{what}: 'logit_scale' must be a logarithm, at most 88, found "
            f"{float(logarithm):.4g}; fetch the file again"
        )
    return scale
