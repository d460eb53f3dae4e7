"""Draw random target images for a person to sort into classes, to measure accuracy without labels.

`draw` copies images into a folder, a person moves them, and `collect` reads where they are. Layout:

    FOLDER/manifest.json        what was drawn, with a digest of each file
    FOLDER/unsorted/            images, numbered in random order so that no name tells a class
    FOLDER/sorted/<class>/      folders that the person moves them to
    FOLDER/none-of-these/       images of no class
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from adapt.data import digests
from adapt.data.base import DomainPair, ImageSet
from runtime.console import count_of, write_json
from runtime.errors import DataError, FormatError
from runtime.frames.preprocess import read_image
from runtime.models import TaskInfo, check_sha256
from runtime.storage import disk
from runtime.storage.fields import build
from runtime.storage.files import read_bytes, storage_errors
from runtime.storage.json_text import parse
from runtime.storage.writing import sibling_folder

MANIFEST, UNSORTED, SORTED, NONE = "manifest.json", "unsorted", "sorted", "none-of-these"
_IGNORED = frozenset(("thumbs.db", "desktop.ini"))
"""Files that file managers leave behind, besides hidden ones."""
MAX_BYTES = 16 << 20


@dataclass(frozen=True)
class Drawn:
    """One image that was drawn."""

    file: str
    sha256: str

    def __post_init__(self) -> None:
        check_sha256(self.sha256)


@dataclass(frozen=True)
class Manifest:
    """The images drawn, and those they were drawn from."""

    kind: Literal["uda-spot-check"]
    schema: Literal[1]
    task: TaskInfo
    population: int
    """Number of images to draw from."""
    digest: str
    """`ImageSet.digest` of these."""
    held_out: bool
    """Whether training never sees them."""
    seed: int
    images: tuple[Drawn, ...]

    def __post_init__(self) -> None:
        digests.check(self.digest)
        if len({image.file for image in self.images}) != len(self.images):
            raise ValueError("a file is named twice")


@dataclass(frozen=True, eq=False)
class Sorting:
    """The images as a person sorted them."""

    manifest: Manifest
    paths: tuple[Path, ...]
    """Paths of the images that are in a class."""
    labels: NDArray[np.int64]
    """Classes of these, as positions in the task's classes."""
    unsorted: int
    none: int
    """Number of images in none of the classes."""


def draw(pair: DomainPair, count: int, seed: int, folder: Path) -> Manifest:
    """Copy a random set of a task's test images into a new folder, ready to be sorted.

    Drawn without replacement, each image with the same chance. Unreadable images are skipped.

    Args:
        pair: Images of the task; `test` is drawn from.
        count: Number of images to draw.
        seed: Seed of the draw.
        folder: Folder to write, whole or not at all; it must not exist, or be empty.

    Raises:
        DataError: There are fewer images, or the folder is taken, or a class cannot name a folder.
        StorageError: The folder cannot be written.
    """
    for name in pair.task.classes:
        if name.startswith(".") or "/" in name or "\\" in name:
            raise DataError(f"class '{name}' cannot name a folder; rename it, without / and \\")
    with storage_errors(folder):
        if disk.exists(folder) and (not disk.is_folder(folder) or any(folder.iterdir())):
            raise DataError(f"'{folder}' is not empty; choose another --out")
        with sibling_folder(folder) as aside:
            made = aside / folder.name
            for name in (UNSORTED, NONE, *(f"{SORTED}/{c}" for c in pair.task.classes)):
                (made / name).mkdir(parents=True)
            manifest = Manifest(
                kind="uda-spot-check",
                schema=1,
                task=pair.task,
                population=len(pair.test),
                digest=pair.test.digest(),
                held_out=pair.held_out,
                seed=seed,
                images=_copy(pair.test, count, seed, made / UNSORTED),
            )
            write_json(made / MANIFEST, asdict(manifest))
            made.replace(folder)
    return manifest


def _copy(images: ImageSet, count: int, seed: int, folder: Path) -> tuple[Drawn, ...]:
    drawn: list[Drawn] = []
    for index in np.random.default_rng(seed).permutation(len(images)).tolist():
        if len(drawn) == count:
            break
        source = images.paths[index]
        try:
            read_image(source)
        except DataError:
            continue
        name = f"{len(drawn) + 1:0{max(len(str(count)), 3)}d}{source.suffix.lower()}"
        shutil.copyfile(source, folder / name)
        drawn.append(Drawn(name, sha256(folder / name)))
    if len(drawn) < count:
        raise DataError(
            f"the target '{images.domain}' has {count_of(len(drawn), 'readable image')} to draw "
            f"from, {count} were asked for; lower --count"
        )
    return tuple(drawn)


def collect(folder: Path) -> Sorting:
    """Return the images as a person sorted them; nothing in the folder is trusted.

    Raises:
        FormatError: There is no manifest, or it is damaged or of another version.
        DataError: An image is missing, altered, present twice or foreign, or a folder is not a
            class.
    """
    if not disk.is_file(folder / MANIFEST):
        raise FormatError(
            f"'{folder}' has no {MANIFEST}; pass a folder that \"uda-adapt spot-check draw\" made"
        )
    try:
        content = parse(read_bytes(folder / MANIFEST, MAX_BYTES))
    except ValueError as error:
        raise FormatError(f"'{folder / MANIFEST}' is not JSON; draw again") from error
    manifest = build(Manifest, content, f"'{folder / MANIFEST}'")
    known = {image.file: image.sha256 for image in manifest.images}
    classes = {name: label for label, name in enumerate(manifest.task.classes)}
    found: dict[str, tuple[Path, str]] = {}
    folders = [(path.name, path) for path in _listed(folder) if path.name in (UNSORTED, NONE)]
    for path in _listed(folder / SORTED):
        if path.name not in classes:
            raise DataError(
                f"'{path}' is not a class folder of '{manifest.task.id}'; move its images into "
                f"one of those that were there, or into {NONE}/"
            )
        folders.append((f"{SORTED}/{path.name}", path))
    for kind, where in folders:
        for path in _listed(where):
            if path.name not in known or not disk.is_file(path):
                raise DataError(f"'{path}' was not drawn; take it out of '{folder}'")
            if path.name in found:
                first = found[path.name][0]
                raise DataError(f"'{path.name}' is in '{first.parent}' and in '{where}'; keep one")
            if sha256(path) != known[path.name]:
                raise DataError(f"'{path}' is not the image that was drawn; draw again")
            found[path.name] = path, kind
    missing = sorted(known.keys() - found.keys())
    if missing:
        raise DataError(
            f"{len(missing)} of the {len(known)} drawn images are gone from '{folder}', the first: "
            f"'{missing[0]}'; put them back (images that fit no class go into {NONE}/), or draw "
            "again, since leaving images out would bias the accuracy"
        )
    in_class = [name for name, (_, kind) in sorted(found.items()) if kind.startswith(f"{SORTED}/")]
    return Sorting(
        manifest,
        tuple(found[name][0] for name in in_class),
        np.array([classes[found[name][0].parent.name] for name in in_class], np.int64),
        unsorted=sum(kind == UNSORTED for _, kind in found.values()),
        none=sum(kind == NONE for _, kind in found.values()),
    )


def _listed(folder: Path) -> list[Path]:
    """Return the entries of a folder, sorted, without files of file managers."""
    if not disk.is_folder(folder):
        return []  # emptied and deleted; what was in it is missed by name
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise DataError(f"cannot list '{folder}': {error.strerror or error}") from error
    return [folder / n for n in names if not n.startswith(".") and n.lower() not in _IGNORED]


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        DataError: It cannot be read.
    """
    try:
        with path.open("rb") as stream:
            digest = hashlib.sha256()
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise DataError(f"cannot read '{path}': {error.strerror or error}") from error
    return digest.hexdigest()
