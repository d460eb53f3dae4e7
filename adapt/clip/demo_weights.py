"""Read and write the shipped pre-trained models: their architectures and weights.

A file holds open_clip's state dict in fp16. Of the token embedding, most of the model, only the
rows of words that occur in a caption or a prompt were ever trained; only those are stored, as
`token_embedding.weight` (R, W) with their indices `token_embedding.rows` (R,).
"""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from runtime.errors import BaseModelError
from runtime.storage.header import read_header
from runtime.storage.writing import replacing

FOLDER = Path(__file__).resolve().parents[1] / "demo"
"""Where their files lie."""
ARCHITECTURES = {path.stem: path for path in sorted((FOLDER / "architectures").glob("*.json"))}
"""Model name to its open_clip configuration file."""
WEIGHTS = {name: FOLDER / "weights" / f"{name}.safetensors" for name in ARCHITECTURES}
"""Model name to its weights file."""

EMBEDDING = "token_embedding.weight"
ROWS = "token_embedding.rows"


def architecture(name: str) -> dict[str, Any]:
    """Return the open_clip configuration of a model, freshly read.

    Raises:
        BaseModelError: No such model is shipped.
    """
    if name not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise BaseModelError(f"pretrained 'demo' has no model '{name}'; available: {known}")
    config: dict[str, Any] = json.loads(ARCHITECTURES[name].read_text())
    return config


def register() -> None:
    """Make `open_clip.create_model` and `open_clip.get_tokenizer` know the architectures."""
    for path in ARCHITECTURES.values():
        open_clip.add_model_config(path)


def load_state_dict(name: str, path: Path | None = None) -> dict[str, Tensor]:
    """Return the weights of a demo model as open_clip's own state dict, in fp32.

    The token embedding is expanded to the whole vocabulary; words without a stored row are zero.

    Args:
        name: Name of the model.
        path: File to read; None means the shipped one.

    Raises:
        BaseModelError: No such model is shipped, or its file is missing or damaged.
    """
    text = architecture(name)["text_cfg"]
    path = path or WEIGHTS[name]
    stored = _read(path, name)
    known, rows = stored.get(EMBEDDING), stored.pop(ROWS, None)
    if known is None or rows is None or rows.dtype != torch.int64 or rows.ndim != 1:
        raise _damaged(path, f"'{EMBEDDING}' or its int64 list '{ROWS}' is missing")
    if known.shape != (len(rows), text["width"]):
        needed = (len(rows), text["width"])
        raise _damaged(path, f"'{EMBEDDING}' must be {needed}, found {tuple(known.shape)}")
    wanted = set(rows.tolist())
    if len(wanted) != len(rows) or not wanted <= set(range(text["vocab_size"])):
        raise _damaged(path, f"'{ROWS}' repeats a row or leaves the vocabulary")
    for key, tensor in stored.items():
        if tensor.is_floating_point() and not (
            tensor.dtype == torch.float16 and bool(tensor.isfinite().all())
        ):
            raise _damaged(path, f"'{key}' must be finite fp16, found {tensor.dtype}")
    full = torch.zeros(text["vocab_size"], text["width"])
    full[rows] = known.float()
    state = {k: v.float() if v.is_floating_point() else v for k, v in stored.items()}
    return state | {EMBEDDING: full}


def save_state_dict(
    path: Path, state: dict[str, Tensor], rows: Tensor, metadata: dict[str, str]
) -> None:
    """Write a model so that `load_state_dict` can read it; the file is whole or absent.

    Args:
        path: File to write.
        state: open_clip's state dict, any float dtype.
        rows: Indices (R,) int64 of the token embedding rows to keep.
        metadata: Origin of the weights; "architecture" is checked when reading.

    Raises:
        StorageError: The file cannot be written.
    """
    tensors = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    tensors |= {EMBEDDING: tensors[EMBEDDING][rows], ROWS: rows}
    with replacing(path) as temporary:
        save_file({k: v.contiguous() for k, v in tensors.items()}, temporary, metadata)


def _read(path: Path, name: str) -> dict[str, Tensor]:
    try:
        content = path.read_bytes()
        made_for = read_header(BytesIO(content)).get("__metadata__", {}).get("architecture")
        stored = load(content)
    except (OSError, SafetensorError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    if made_for != name:
        raise _damaged(path, f"it must hold '{name}', found '{made_for}'")
    return stored


def _damaged(path: Path, reason: str) -> BaseModelError:
    return BaseModelError(
        f"weights file '{path}' is unusable: {reason}; reinstall the package, or make it again "
        f"with `python -m adapt.demo.pretrain --model {path.stem}`"
    )
