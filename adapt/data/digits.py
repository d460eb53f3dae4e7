"""Load MNIST (LeCun 1998), USPS (Hull 1994) and SVHN (Netzer et al. 2011) from original files."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from adapt.data import digit_files, home, layouts, pictures
from adapt.data.base import Domain, ImageSet
from adapt.data.benchmark import Benchmark, Part, among
from adapt.data.class_folders import read_folder
from adapt.data.digit_files import Labels, Pixels
from runtime.errors import DataError
from runtime.storage import disk

DONE = "DONE.txt"
"""File with the digest of the pictures in a folder of the cache."""
VERSION = 2
"""Version of the pictures in the cache; raise it when decoding changes."""


@dataclass(frozen=True)
class Format:
    """Names and readers of one domain's files."""

    files: dict[str, tuple[str, ...]]
    """Names of the needed files by split, without the ending of a packed file."""
    decode: Callable[..., tuple[Pixels, Labels]]
    labels: Callable[..., Labels]
    """Reader of the labels alone, which is quicker."""


FORMATS = {
    "mnist": Format(
        {
            "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
            "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
        },
        digit_files.mnist,
        digit_files.mnist_labels,
    ),
    "usps": Format(
        {"train": ("usps",), "test": ("usps.t",)}, digit_files.usps, digit_files.usps_labels
    ),
    "svhn": Format(
        {"train": ("train_32x32.mat",), "test": ("test_32x32.mat",)},
        digit_files.svhn,
        digit_files.svhn_labels,
    ),
}
"""Formats by domain."""


class Digits(Benchmark):
    """Ten digits: handwritten (MNIST), from envelopes (USPS), from house numbers (SVHN).

    Read from the original files in ROOT, ROOT/mnist or ROOT/MNIST/raw. Official training splits are
    trained on, the target's official test split is tested on. Pictures are unpacked once into the
    cache, 178,000 small files for all three.
    """

    name = "digits"
    folders = ("digits",)
    home = (
        "MNIST's idx files; usps.bz2 and usps.t.bz2 of the LIBSVM data sets; train_32x32.mat and "
        "test_32x32.mat from http://ufldl.stanford.edu/housenumbers/"
    )
    domains = {
        "m": Domain("mnist", 70_000),
        "u": Domain("usps", 9_298),
        "s": Domain("svhn", 99_289),
    }
    reported = ("s-m", "u-m", "m-u")
    class_count = 10
    classes = tuple("0123456789")

    def read(self, root: Path, short: str) -> Part:
        """Return the images of one domain, unpacking its files if the cache does not hold them.

        Raises:
            DataError: A file is missing or damaged.
            StorageError: The cache cannot be written.
        """
        name = self.domains[short].name
        train, test = (
            unpack(name, split, self.originals(root, short, split)) for split in ("train", "test")
        )
        return Part(among(train, self.classes), among(test, self.classes))

    def survey(self, root: Path | None, short: str) -> dict[str, Counter[str]]:
        """Return the number of images per digit of one domain, by split; unpacks nothing."""
        form, folder = FORMATS[self.domains[short].name], self.root(root)
        counts = {}
        for split in form.files:
            labels = form.labels(*self.originals(folder, short, split))
            numbers = np.bincount(labels, minlength=len(self.classes)).tolist()
            counts[split] = Counter(dict(zip(self.classes, numbers, strict=True)))
        return counts

    def originals(self, root: Path, short: str, split: str) -> tuple[Path, ...]:
        """Return the original files of one split.

        Raises:
            DataError: A file is missing.
        """
        domain = self.domains[short]
        bases = layouts.bases(root, self.folders)
        bases += [p for p in layouts.bases(root, (domain.name,)) if p not in bases]
        bases += [base / "raw" for base in bases]
        found = []
        for name in FORMATS[domain.name].files[split]:
            names = {name + end for end in ("", ".gz", ".bz2")}
            names |= {other.replace("-idx", ".idx") for other in names}
            path = next((p / n for p in bases for n in sorted(names) if disk.is_file(p / n)), None)
            if path is None:
                raise DataError(
                    f"the file '{name}' of {domain.name} not found, neither in '{root}' nor in "
                    f"'{root / domain.name}'; get the original files: {self.home}"
                )
            found.append(path)
        return tuple(found)


def unpack(name: str, split: str, originals: tuple[Path, ...]) -> ImageSet:
    """Return the pictures of original files as PNG files of the cache, written once.

    Several processes may do so at once: each writes a folder of its own, the first to finish puts
    it in place, the others use that one. The folder's name has the files' digest. A folder that
    lost pictures, or has others, is made again.

    Raises:
        DataError: A file is damaged or unreadable.
        StorageError: The cache cannot be written.
    """
    digest = hashlib.sha256(f"{VERSION}".encode())
    for path in originals:
        try:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        except OSError as error:
            raise DataError(
                f"cannot read '{path}': {error.strerror or error}; check its permissions, or get "
                "it again"
            ) from error
    folder = home.folder() / "digits" / f"{name}-{split}-{digest.hexdigest()[:16]}"
    pictures.drop_damaged(folder, _whole)
    if not disk.exists(folder):
        images, labels = FORMATS[name].decode(*originals)
        with pictures.publishing(folder, DONE) as made:
            _write(images, labels, made)
    return read_folder(folder, name)


def _whole(folder: Path) -> bool:
    try:
        return (folder / DONE).read_bytes() == pictures.digest(folder).encode()
    except (OSError, DataError):
        return False


def _write(images: Any, labels: Labels, folder: Path) -> None:
    for digit in sorted(set(labels.tolist())):
        (folder / str(digit)).mkdir()
    for number, (pixels, label) in enumerate(zip(images, labels.tolist(), strict=True)):
        path = folder / str(label) / f"{number:05}.png"
        Image.fromarray(np.ascontiguousarray(pixels)).save(path, compress_level=1)
    (folder / DONE).write_text(pictures.digest(folder, moving=True))
