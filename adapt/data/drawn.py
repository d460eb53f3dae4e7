"""Render the two data sets of the demo world into image folders on first use.

demo-digits: printed digits (`font`) and handwritten ones (`hand`), ten classes.
demo-objects: twelve objects as `art`, `clipart`, `product` and `real`.

Inside the returned folder: `<train or test>/<domain>/<class>/<nnnn>.png`, 32 x 32 RGB.
"""

import contextlib
import hashlib
import json
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image, features

from adapt.data import home, pictures
from adapt.drawing import jobs
from adapt.drawing.corpus import DIGIT_NAMES
from adapt.drawing.domains import OBJECT_DOMAINS
from adapt.drawing.shapes import TASK_CLASSES
from runtime.errors import DataError, FormatError, StorageError
from runtime.storage import disk
from runtime.storage.files import open_regular, read_bytes
from runtime.storage.json_text import parse
from runtime.storage.writing import write_bytes

DONE = "DONE.json"
"""Written last: a folder that has it is complete."""
_MAX_SUMMARY = 1 << 16


@dataclass(frozen=True)
class DemoPart:
    """One domain of one split."""

    split: str
    domain: str
    job: jobs.Job


@dataclass(frozen=True)
class DemoSet:
    """A data set that is drawn, not downloaded."""

    classes: tuple[str, ...]
    """Class names in label order."""
    parts: tuple[DemoPart, ...]
    sha256: str
    """`pixel_digest` of the folder; the same on every machine."""


def _objects(split: str, index: int, domain: str) -> DemoPart:
    base, per_class = {"train": (100, 100), "test": (200, 50)}[split]
    arguments = (domain, base + index, per_class)
    images = per_class * len(TASK_CLASSES)
    return DemoPart(split, domain, jobs.Job("adapt.drawing.batches:objects", arguments, images))


def _fonts(split: str, seed: int, count: int) -> DemoPart:
    return DemoPart(
        split, "font", jobs.Job("adapt.drawing.batches:font_digits", (seed, count), count)
    )


def _hand(split: str, count: int) -> DemoPart:
    return DemoPart(split, "hand", jobs.Job("adapt.drawing.batches:hand_digits", (split,), count))


DEMO_SETS = {
    "demo-digits": DemoSet(
        DIGIT_NAMES,
        (
            _fonts("train", 77, 2000),
            _fonts("test", 78, 500),
            _hand("train", 1000),
            _hand("test", 797),
        ),
        "861d237a82afcad4e0bd24a6a98431e30b44a4fd5808c2d66eee8f56f2e6594c",
    ),
    "demo-objects": DemoSet(
        TASK_CLASSES,
        tuple(
            _objects(split, index, domain)
            for split in ("train", "test")
            for index, domain in enumerate(OBJECT_DOMAINS)
        ),
        "0fd5af76c7185bf864108505be766db8f2a8a3fc49af5e3d3512f5d7e5385d22",
    ),
}
"""Name to data set."""


def render(name: str, root: Path | None = None, workers: int = 2) -> Path:
    """Return the folder of a data set, drawing it first if the cache does not hold it.

    Several processes may call this at once: each draws into a folder of its own, the first to
    finish puts it in place, the others use that one. A folder that lost pictures, or has others, is
    drawn again.

    Args:
        name: Name of the data set, "demo-digits" or "demo-objects".
        root: Cache folder; None means `adapt.data.home.folder`.
        workers: Number of processes that draw.

    Raises:
        DataError: The name is unknown, or a library is missing.
        StorageError: The cache folder cannot be written.
    """
    if name not in DEMO_SETS:
        raise DataError(f"unknown demo data set '{name}'; choose one of {sorted(DEMO_SETS)}")
    folder = (root or home.folder()) / "demo" / f"{name}-v1"
    pictures.drop_damaged(folder, _whole)
    if not disk.exists(folder):
        results = jobs.run([part.job for part in DEMO_SETS[name].parts], f"drawing {name}", workers)
        with pictures.publishing(folder, DONE) as made:
            _write(name, results, made)
    _check_digest(name, folder)
    return folder


def pixel_digest(folder: Path) -> str:
    """Return the SHA-256 over the relative path and the decoded pixels of every PNG in a folder.

    Raises:
        OSError: A file cannot be read, or is something else, such as a named pipe.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.png"), key=lambda path: path.relative_to(folder).as_posix()):
        with open_regular(path) as stream, Image.open(stream) as image:
            pixels = np.asarray(image.convert("RGB"))
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + pixels.tobytes())
    return digest.hexdigest()


def _write(name: str, results: list[tuple[np.ndarray, ...]], folder: Path) -> None:
    for part, (images, labels) in zip(DEMO_SETS[name].parts, results, strict=True):
        _write_images(folder / part.split / part.domain, images, labels, name)
    summary = {
        "name": name,
        "images": sum(len(labels) for _, labels in results),
        "sha256": pixel_digest(folder),
        "contents": pictures.digest(folder, moving=True),
        "versions": _versions(),
    }
    (folder / DONE).write_text(json.dumps(summary, indent=2) + "\n")


def _write_images(folder: Path, images: np.ndarray, labels: np.ndarray, name: str) -> None:
    for label, class_name in enumerate(DEMO_SETS[name].classes):
        (folder / class_name).mkdir(parents=True)
        for number, pixels in enumerate(images[labels == label]):
            Image.fromarray(pixels).save(folder / class_name / f"{number:04d}.png")


def _whole(folder: Path) -> bool:
    """Return whether the pictures are those that were drawn."""
    try:
        summary = parse(read_bytes(folder / DONE, _MAX_SUMMARY))
        if not isinstance(summary["sha256"], str):
            return False
        if "contents" in summary:
            return bool(summary["contents"] == pictures.digest(folder))
        # Drawn before contents were noted.
        if summary["sha256"] != pixel_digest(folder):
            return False
        summary["contents"] = pictures.digest(folder)
    except (OSError, ValueError, KeyError, TypeError, DataError, FormatError):
        return False
    with contextlib.suppress(StorageError):  # it is looked at again next time
        write_bytes(folder / DONE, (json.dumps(summary, indent=2) + "\n").encode())
    return True


def _check_digest(name: str, folder: Path) -> None:
    """Warn when the cached pictures are not the ones that every figure was measured on."""
    found = parse(read_bytes(folder / DONE, _MAX_SUMMARY))["sha256"]
    expected = DEMO_SETS[name].sha256
    if found != expected:
        warnings.warn(
            f"{name} came out different on this machine: its pixels hash to {found}, not "
            f"{expected}, so accuracies may differ from the published ones; drawn with "
            f"{_versions()}, in '{folder}'",
            stacklevel=3,
        )


def _versions() -> dict[str, str]:
    libraries = ("numpy", "pillow", "matplotlib", "scikit-learn")
    freetype = str(features.version("freetype2"))
    return {library: version(library) for library in libraries} | {"freetype": freetype}
