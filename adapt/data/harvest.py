"""Read a camera's harvest, made by `runtime.Harvester`, as an unlabelled domain.

Training takes the trusted images, tests take the held-out ones. A person may sort some of the
held-out and of the unsure images into classes, even after training: a run does not depend on their
labels, so it need not be repeated.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adapt.data import spelling
from adapt.data.base import UNKNOWN, DomainPair, ImageSet
from adapt.data.contents import contents
from adapt.data.pairing import match
from runtime.errors import DataError, StorageError
from runtime.inventory.left_out import LeftOut
from runtime.inventory.walk import reason_of
from runtime.monitoring import harvested
from runtime.monitoring.harvested import HELD_OUT, LOCK, NONE, SORTED, TRUSTED, UNSURE, Entry
from runtime.storage import disk
from runtime.storage.locks import exclusive
from runtime.storage.spelling import composed, on_disk
from runtime.text import printable

MEMBER = "harvest"
"""Optional member of an artifact: how its task compares on held-out frames."""
BELOW = "below_zero_shot"
"""Key of that member: whether labels show the task to be right less often than zero-shot CLIP."""


@dataclass(frozen=True, eq=False)
class Harvest:
    """The images of a harvest, and what was predicted for them when they were harvested."""

    trusted: ImageSet
    held_out: ImageSet
    """Labelled if a person has sorted them."""
    unsure: ImageSet
    """The unsure images that a person has sorted."""
    left_out: tuple[LeftOut, ...]
    """Images that are not taken, and why."""
    entries: dict[str, Entry]
    """Entries of the manifest by name of the file."""


def read(folder: Path, name: str) -> Harvest:
    """Return the images of a harvest, after checking every file against the manifest.

    Args:
        folder: Folder of the harvest.
        name: Name of the domain.

    Raises:
        FormatError: The manifest is damaged.
        DataError: It is being written, or has no trusted or no held-out images.
        StorageError: Access is denied.
    """
    _check_ended(folder)
    classes = harvested.sorted_classes(folder)
    for each in classes:
        spelling.check_name(each, "class folder", folder / SORTED / each)
    taken: dict[str, list[tuple[Path, str]]] = {TRUSTED: [], HELD_OUT: [], UNSURE: []}
    left_out: list[LeftOut] = []
    entries = {entry.file: entry for entry in harvested.read(folder)}
    for entry, path, where in _found(folder, entries.values(), classes, left_out):
        label = composed(where.removeprefix(f"{SORTED}/")) if where.startswith(SORTED) else ""
        moved = where not in harvested.PARTS
        part = entry.part if moved else where
        if (where == NONE and part != HELD_OUT) or (part == UNSURE and not label):
            left_out.append(LeftOut(path, "of no class" if where == NONE else "unsure, not sorted"))
        else:
            taken[part].append((path, label))
    if not taken[TRUSTED] or not taken[HELD_OUT]:
        counts = ", ".join(
            f"{part} {len(found)}" for part, found in taken.items() if part != UNSURE
        )
        raise DataError(
            f"the harvest '{folder}' has too few images ({counts}); let the camera harvest longer"
        )
    sets = {part: _images(found, name) for part, found in taken.items()}
    return Harvest(sets[TRUSTED], sets[HELD_OUT], sets[UNSURE], tuple(left_out), entries)


def verdict_of(document: object) -> str | None:
    """Return what an artifact's member says in one line; None if it says nothing.

    Args:
        document: Value from a file, of any shape.
    """
    if not isinstance(document, dict):
        return None
    words = [document.get(key) for key in ("verdict", "reason")]
    if not all(isinstance(word, str) for word in words):
        return None
    return f"on held-out frames of the harvest, {printable(words[0])}: {printable(words[1])}"


def of_pair(pair: DomainPair) -> Harvest | None:
    """Return the harvest that a task is adapted to, its classes those of the task, if it is one.

    Raises:
        UdaError: As `read`.
    """
    if pair.origin is None or pair.origin.target is None or pair.given:
        return None
    folder = folder_of(Path(pair.origin.root), pair.origin.target)
    if folder is None:
        return None
    found = read(folder, pair.target.domain)
    # By name, since the pair's paths may be relative.
    if [path.name for path in found.held_out.paths] != [path.name for path in pair.test.paths]:
        raise DataError(f"the harvest '{folder}' has just changed; start again")
    held_out, unsure = (match(pair.source, each, 0) for each in (found.held_out, found.unsure))
    return Harvest(pair.target, held_out, unsure, found.left_out, found.entries)


def folder_of(root: Path, target: str) -> Path | None:
    """Return the folder of a domain of own images; None where it is not a harvest.

    Raises:
        StorageError: Access is denied.
    """
    folder = on_disk(root / target)
    return folder if harvested.is_harvest(folder) else None


def _check_ended(folder: Path) -> None:
    """Refuse a harvest that is still being written: images would vanish during training."""

    def busy(holder: str) -> DataError:
        return DataError(
            f"{holder} is harvesting into '{folder}'; end it, or copy the folder (cp -r) and "
            "train on the copy"
        )

    with suppress(StorageError):  # on a disk that cannot be written nobody harvests
        if disk.exists(folder / LOCK):
            with exclusive(folder / LOCK, required=False, keep=False, busy=busy):
                pass


def _found(
    folder: Path, entries: Iterable[Entry], classes: list[str], left_out: list[LeftOut]
) -> list[tuple[Entry, Path, str]]:
    """Return the images that are there, unaltered, with their folders."""
    found: list[tuple[Entry, Path, str]] = []
    for entry in entries:
        located = harvested.find(folder, entry, classes)
        if located is None:
            left_out.append(LeftOut(folder / entry.part / entry.file, "listed, but missing"))
        elif reason := reason_of(str(located[0])):
            left_out.append(LeftOut(located[0], reason))
        else:
            found.append((entry, *located))
    sums = contents([path for _, path, _ in found])
    good = [s.tobytes().hex() == e.sha256 for s, (e, _, _) in zip(sums, found, strict=True)]
    for same, (_, path, _) in zip(good, found, strict=True):
        if not same:
            left_out.append(LeftOut(path, "altered since it was harvested"))
    known = {path for _, path, _ in found}
    for part in harvested.PARTS:
        where = folder / part
        others = [p for p in disk.matching(where, "*") if p not in known and p.name[0] != "."]
        left_out += [LeftOut(path, "not in the manifest") for path in others]
    return [each for same, each in zip(good, found, strict=True) if same]


def unlabelled(images: ImageSet) -> ImageSet:
    """Return images without their labels."""
    return ImageSet(images.paths, np.full(len(images), UNKNOWN), (), images.domain)


def _images(found: list[tuple[Path, str]], name: str) -> ImageSet:
    classes = tuple(sorted({label for _, label in found if label}))
    labels = [classes.index(label) if label else UNKNOWN for _, label in found]
    return ImageSet(tuple(path for path, _ in found), np.array(labels, np.int64), classes, name)
