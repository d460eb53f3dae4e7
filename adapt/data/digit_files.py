"""Read the original files of MNIST, USPS and SVHN, trusting nothing in them."""

from __future__ import annotations

import bz2
import gzip
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapt.child import ChildError, call
from runtime.errors import DataError
from runtime.storage.writing import scratch_folder

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]

_LIMIT = 2**26
"""Most bytes that a compressed file may unpack to; the largest, MNIST's images, has 2**25.5."""
_USPS_SIDE = 16


def mnist_labels(images: Path, labels: Path) -> Labels:
    """Return the labels (N,) of an IDX file, 0 to 9."""
    del images
    return _checked(_idx(labels, 1).astype(np.int64), labels)


def mnist(images: Path, labels: Path) -> tuple[Pixels, Labels]:
    """Return MNIST's pictures (N, 28, 28) and labels (N,) from IDX files, plain or gzipped.

    Raises:
        DataError: A file is damaged, or the two do not match.
    """
    return _same_length(_idx(images, 3), mnist_labels(images, labels), images)


def usps(path: Path) -> tuple[Pixels, Labels]:
    """Return USPS' pictures (N, 16, 16) and labels (N,) from LIBSVM text, bzip2-packed or plain.

    A line is `label 1:value ... 256:value`, the label from 1 to 10 for the digits 0 to 9, values
    from -1 (black) to 1 (white).

    Raises:
        DataError: The file is damaged.
    """
    features = _USPS_SIDE**2
    try:
        raw = _unpacked(path, bz2.open) if path.suffix == ".bz2" else path.read_bytes()
        numbers = np.array(raw.replace(b":", b" ").split(), np.float64).reshape(
            -1, 1 + 2 * features
        )
    except (OSError, EOFError, ValueError) as error:
        raise _damaged(path, f"no lines of a label and {features} 'index:value' pairs") from error
    if not (numbers[:, 1::2] == np.arange(1, features + 1)).all():
        raise _damaged(path, f"feature numbers are not 1 to {features}")
    if not np.isfinite(numbers).all():
        raise _damaged(path, "a value is not finite")
    values = np.clip((numbers[:, 2::2] + 1) * 127.5, 0, 255).round().astype(np.uint8)
    labels = _checked(_whole(numbers[:, 0], path) - 1, path)
    return values.reshape(-1, _USPS_SIDE, _USPS_SIDE), labels


def usps_labels(path: Path) -> Labels:
    """Return the labels (N,) of a USPS file, 0 to 9."""
    return usps(path)[1]


def svhn(path: Path) -> tuple[Pixels, Labels]:
    """Return SVHN's cropped pictures (N, 32, 32, 3) and labels (N,); its label 10 is the digit 0.

    Raises:
        DataError: The file is damaged.
    """
    pixels, labels = _matlab(path, "X", "y")
    if pixels.ndim != 4 or pixels.dtype != np.uint8 or pixels.shape[2] != 3:
        raise _damaged(path, f"'X' is {pixels.dtype} {pixels.shape}, not uint8 (32, 32, 3, N)")
    return _same_length(np.moveaxis(pixels, 3, 0), _svhn_labels(labels, path), path)


def svhn_labels(path: Path) -> Labels:
    """Return the labels (N,) of an SVHN file, 0 to 9.

    Raises:
        DataError: The file is damaged.
    """
    (labels,) = _matlab(path, "y")
    return _svhn_labels(labels, path)


def _svhn_labels(found: NDArray[Any], path: Path) -> Labels:
    labels = _whole(found.reshape(-1), path)
    return _checked(np.where(labels == 10, 0, labels), path)


def _idx(path: Path, dimensions: int) -> Pixels:
    """Return the bytes of an IDX file: magic, sizes as big-endian integers, then the data."""
    try:
        raw = _unpacked(path, gzip.open) if path.suffix == ".gz" else path.read_bytes()
        magic, *sizes = struct.unpack_from(f">{1 + dimensions}I", raw)
    except (OSError, EOFError, struct.error, zlib.error) as error:
        raise _damaged(path, str(error)) from error
    data = np.frombuffer(raw, np.uint8, offset=4 * (1 + dimensions))
    if magic != 0x0800 + dimensions or data.size != int(np.prod(sizes, dtype=object)):
        raise _damaged(
            path, f"magic {magic:#x}, sizes {sizes} and {data.size} bytes do not fit together"
        )
    return data.reshape(sizes)


def _matlab(path: Path, *names: str) -> tuple[NDArray[Any], ...]:
    """Return variables of a MATLAB file, read in a child, since a damaged file crashes SciPy."""
    try:
        with scratch_folder("uda-matlab") as folder:
            return call(f"{__name__}:read_matlab", (str(path), *names), folder / "found.npz")
    except ChildError as error:
        wanted = "' and '".join(names)
        raise _damaged(path, f"no MATLAB 5 file with '{wanted}': {error}") from error


def read_matlab(path: str, *names: str) -> tuple[NDArray[Any], ...]:
    """Return variables of a MATLAB file; a damaged file raises any exception, or crashes SciPy.

    Args:
        path: Path of the file.
        names: Names of the variables.
    """
    from scipy.io import loadmat  # comes with scikit-learn; slow to import

    found = loadmat(path, variable_names=names)
    for name in names:
        if found[name].dtype.kind not in "uif":  # an object would travel as a pickle
            raise TypeError(f"'{name}' is not numeric")
    return tuple(found[name] for name in names)


def _unpacked(path: Path, opener: Callable[[Path, str], Any]) -> bytes:
    with opener(path, "rb") as stream:
        content: bytes = stream.read(_LIMIT + 1)
    if len(content) > _LIMIT:
        raise OSError(f"it unpacks to more than {_LIMIT} bytes")
    return content


def _whole(numbers: NDArray[Any], path: Path) -> Labels:
    whole = numbers.dtype.kind in "uif" and np.isfinite(numbers).all()
    if not whole or not (numbers == np.round(numbers)).all():
        raise _damaged(path, "labels are not whole numbers")
    return numbers.astype(np.int64)


def _checked(labels: Labels, path: Path) -> Labels:
    if not labels.size or labels.min() < 0 or labels.max() > 9:
        raise _damaged(path, "labels are not digits")
    return labels


def _same_length(images: Pixels, labels: Labels, path: Path) -> tuple[Pixels, Labels]:
    if len(images) != len(labels):
        raise _damaged(path, f"{len(images)} pictures and {len(labels)} labels")
    return images, labels


def _damaged(path: Path, why: str) -> DataError:
    return DataError(f"'{path}' is not a valid original file: {why}; download it again")
