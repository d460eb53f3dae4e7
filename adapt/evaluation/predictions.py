"""Predict the test images of a task, and keep what was predicted in the cache.

Under `$UDA_CACHE`: `predictions/<key>.safetensors`, checksummed. The key covers the weights, the
contents of the images and how they are resized, so that a report need not evaluate again what
`uda-adapt eval`, or an earlier report, has.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from adapt.data.cache import Pixels
from adapt.data.home import folder
from adapt.evaluation.selection import information_maximisation
from adapt.evaluation.variants import Variant
from runtime.errors import FormatError, StorageError
from runtime.monitoring.confidence import Calibration
from runtime.storage import checksummed, disk
from runtime.storage.checksummed import Tensors
from runtime.storage.digest import tensors_sha256

KIND, SCHEMA = "uda-predictions", 1
VERSION = 2
"""Version of the computation; raise it when predictions of the same weights change."""
_TOP = 2
"""Number of classes that are kept of each image."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Predictions:
    """The two likeliest classes of every readable test image."""

    positions: NDArray[np.int64]
    """Positions (M,) in the test images; unreadable ones are left out."""
    classes: NDArray[np.int64]
    """Classes (M, 2) as positions in the task's, the likeliest first."""
    scores: NDArray[np.float32]
    """Softmax (M, 2) of these classes, in [0, 1]."""
    confidences: NDArray[np.float32]
    """Calibrated probabilities (M,) of the likeliest classes; the scores if uncalibrated."""
    infomax: float
    """Information maximisation of all predictions, in nats."""
    stored: bool = False
    """Whether they were found, rather than computed now."""

    @classmethod
    def of(
        cls,
        logits: Tensor,
        positions: NDArray[np.int64],
        calibration: Calibration | None = None,
    ) -> Predictions:
        """Return the predictions of logits (M, K), K at least two, on the CPU.

        Args:
            logits: Logits of the readable images.
            positions: Positions (M,) of these in the test images.
            calibration: Temperature of the logits, if there is one.
        """
        scores, classes = logits.softmax(-1).topk(_TOP)
        classes[:, 0] = logits.argmax(-1)  # of equal ones, that which the accuracy counts
        same = classes[:, 0] == classes[:, 1]
        classes[same, 1] = logits[same].topk(_TOP).indices[:, 0]
        infomax = round(information_maximisation(logits), 4)
        sure = scores[:, 0].numpy()
        if calibration is not None:
            sure = calibration.probabilities(logits.numpy()).max(-1)
        return cls(positions, classes.numpy(), scores.numpy(), sure, infomax)


def predictions(
    variant: Variant,
    test: Pixels,
    classes: int,
    *,
    reuse: bool = False,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> Predictions:
    """Return a variant's predictions on the test images of its task, and keep them in the cache.

    Args:
        variant: Network to predict with.
        test: Pixels of the test images, as the variant takes them.
        classes: Number of classes K.
        reuse: Whether stored predictions may be returned.
        on_batch: Function called with the number of images done, and of all.
    """
    entry = folder() / "predictions" / f"{_key(variant, test)}.safetensors"
    found = _read(entry, test, classes) if reuse else None
    if found is None:
        logits = variant.logits(test.images, on_batch)
        found = Predictions.of(logits, test.positions, variant.calibration)
        try:
            _write(entry, found)
        except StorageError as error:  # nothing is lost but time
            _log.warning("predictions are not kept: %s", error)
    return found


def _key(variant: Variant, test: Pixels) -> str:
    weights = {n: t.detach().cpu().numpy() for n, t in variant.network.state_dict().items()}
    text = (
        f"{VERSION} {variant.device} {variant.base} {variant.preprocess} {variant.calibration!r} "
        f"{tensors_sha256(weights)} {test.key}"
    )
    return hashlib.sha256(text.encode()).hexdigest()


def _write(entry: Path, found: Predictions) -> None:
    names = ("classes", "scores", "confidences")
    tensors: Tensors = {name: getattr(found, name) for name in names}
    checksummed.write(entry, KIND, SCHEMA, {"infomax": found.infomax}, tensors)


def _read(entry: Path, test: Pixels, classes: int) -> Predictions | None:
    """Return stored predictions; None where there are none, or they are damaged."""
    shape = (len(test.positions), _TOP)
    try:
        if not disk.is_file(entry):
            return None
        file = checksummed.read(entry, KIND, SCHEMA)
        top, scores = file.tensors.get("classes"), file.tensors.get("scores")
        sure = file.tensors.get("confidences")
        infomax = file.document.get("infomax")
        if (
            (top is None or top.shape != shape or top.dtype != np.int64)
            or (scores is None or scores.shape != shape or scores.dtype != np.float32)
            or (sure is None or sure.shape != shape[:1] or sure.dtype != np.float32)
            or type(infomax) not in (int, float)
            or not ((top >= 0) & (top < classes)).all()
            or not all(((some >= 0) & (some <= 1)).all() for some in (scores, sure))
        ):
            raise FormatError(f"'{entry}' belongs to other images")
    except (FormatError, StorageError) as error:
        _log.warning("stored predictions are made again: %s", error)
        return None
    return Predictions(test.positions, top, scores, sure, float(str(infomax)), stored=True)
