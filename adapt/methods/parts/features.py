"""Compute image features once per domain, for methods that leave the encoder alone.

Under `$UDA_CACHE/features`, one checksummed file per domain, base model and way of preprocessing.
The file's name is a digest of all that the features depend on, the contents of the images first,
and its document holds the same values; a file that is damaged, or holds others, is made again. It
is read whole and checked before use. Two writers replace each other's equal files.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.nn.functional import normalize

from adapt.compute import parallel
from adapt.compute.inference import predict
from adapt.data.home import folder
from adapt.data.rows import Images
from adapt.methods.base import Method
from runtime.errors import BaseModelError, FormatError, StorageError
from runtime.storage import checksummed, disk
from runtime.storage.writing import remove_leftovers

if TYPE_CHECKING:
    from adapt.clip.model import Clip
    from adapt.settings.config import TrainConfig

KIND, SCHEMA = "uda-features", 1
"""Kind and schema; raise the schema when the meaning of features changes."""
BATCH = 64
"""Images per call of the encoder: a constant, because the last bits may depend on it."""
_ROWS = "features"

_log = logging.getLogger(__name__)


class FeatureMethod(Method):
    """A method over features of the untouched encoder, which it sees once per image.

    Always float32 and without augmentation: settings of mixed precision, cropping and flipping are
    ignored.
    """

    trains_encoder = False
    uses_images = False

    def __init__(self, clip: Clip, prompts: Sequence[str], config: TrainConfig) -> None:
        """Store the values that features depend on."""
        super().__init__(clip, prompts, config)
        self._base, self._mean, self._std = clip.info, list(clip.mean), list(clip.std)

    def bank(self, pixels: Images, key: str) -> Tensor:
        """Return the features (N, D) of a domain's images on the training device.

        Float32, rows of unit length, in the order of the images; from the cache if they are there.

        Args:
            pixels: (N, S, S, 3) uint8 RGB, S the encoder's size.
            key: Names the pixels, see `adapt.data.cache.Pixels`.

        Raises:
            BaseModelError: A feature is not finite, or is 0.
            StorageError: The cache cannot be written.
        """
        document = {
            "base": self._base.sha256,
            # The digest covers the weights alone; the activation follows from the architecture.
            "architecture": self._base.architecture,
            "grid": self.config.grid,
            "mean": self._mean,
            "std": self._std,
            "pixels": key,
            "shape": [len(pixels), self.text.shape[1]],
            "batch": BATCH,
            "torch": torch.__version__,
            "device": self.text.device.type,
        }
        text = json.dumps(document, sort_keys=True)
        path = folder() / "features" / f"{hashlib.sha256(text.encode()).hexdigest()}.safetensors"
        remove_leftovers(path.parent)
        features = _read(path, document)
        lacking = parallel.any_process(features is None)  # under torchrun all compute, or none
        if features is None or lacking:
            features = self._extract(pixels)
            if parallel.rank() == 0:
                checksummed.write(path, KIND, SCHEMA, document, {_ROWS: features.cpu().numpy()})
        return features.to(self.text.device)

    def _extract(self, pixels: Images) -> Tensor:
        _log.info("computing the features of %d images", len(pixels))
        screen, own = Console(stderr=True), parallel.portion(len(pixels), BATCH)
        parts = [
            predict(
                self.encode,
                pixels[start : min(start + BATCH, own.stop)],
                BATCH,
                self.text.device,
                mean=self._mean,
                std=self._std,
            )
            for start in track(
                range(own.start, own.stop, BATCH),
                "features",
                console=screen,
                transient=True,
                disable=not screen.is_terminal or parallel.rank() > 0,
            )
        ]
        none = torch.empty(0, self.text.shape[1])  # of a process without a share
        here = torch.cat([none, *parts]).to(self.text.device)
        features = normalize(parallel.collect(here, len(pixels), BATCH), dim=-1)
        if not _usable({_ROWS: features.cpu().numpy()}, list(features.shape)):
            raise BaseModelError(
                "the base model gives features that are not finite, or 0; check its weights"
            )
        return features


def _read(path: Path, document: Mapping[str, Any]) -> Tensor | None:
    try:
        if not disk.is_file(path):
            return None
        file = checksummed.read(path, KIND, SCHEMA)
        if file.document != document or not _usable(file.tensors, document["shape"]):
            raise FormatError(f"'{path}' holds other features")
    except (FormatError, StorageError) as error:
        _log.warning("features are computed again: %s", error)
        return None
    return torch.from_numpy(file.tensors[_ROWS])


def _usable(tensors: Mapping[str, NDArray[Any]], shape: object) -> bool:
    """Return whether the tensors are features of that shape, rows finite and of unit length."""
    rows = tensors.get(_ROWS)
    if rows is None or rows.dtype != np.float32 or list(rows.shape) != shape:
        return False
    with np.errstate(over="ignore"):
        return bool(np.allclose(np.square(rows).sum(-1), 1, rtol=0, atol=1e-4))  # false for NaN too
