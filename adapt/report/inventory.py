"""Write the page of `uda-adapt data check --report`: what is taken of a data set, and why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adapt.data.inspection.details import Details, sizes
from adapt.report import pages, samples
from adapt.report.album import Album
from runtime.inventory.left_out import counted, reasons

_LISTED = 50
"""Number of paths that are listed of each kind."""
_MOST_CLASSES = 400
"""Most classes whose samples a page holds."""


@dataclass(frozen=True)
class FileList:
    """Files of one kind, such as those left out for one reason."""

    kind: str
    count: int
    """Number of all files."""
    lines: Sequence[str]
    """Lines on some of them."""
    more: int
    """Number of lines that are not shown."""


def write_inventory(
    path: Path,
    title: str,
    details: Sequence[Details],
    notes: Sequence[str],
    unusable: str | None,
    *,
    images: bool = True,
) -> None:
    """Write the inventory of a data set, with samples of every class and domain.

    Args:
        path: File to write, whole or not at all.
        title: Name of the data set.
        details: Domains of the data set.
        notes: Warnings.
        unusable: Reason why training cannot start, or None.
        images: Whether to show pictures.

    Raises:
        StorageError: The file cannot be written.
    """
    album = Album(images)
    domains = [(found.name, found.images) for found in details]
    shown, count = samples.samples(domains, album, most=_MOST_CLASSES)
    page = pages.render(
        "inventory.html",
        title=title,
        unusable=unusable,
        notes=notes,
        header=("domain", "images", "classes", "per class", "kinds", "sizes", "left out"),
        rows=[_row(found) for found in details],
        samples=shown,
        all_samples=count,
        open_classes=_MOST_CLASSES,
        pictures_left_out=album.left_out,
        files=[(found.name, _files(found)) for found in details],
        **pages.common(),
    )
    pages.save(path, page)


def _row(found: Details) -> list[str]:
    counts = tuple(found.counts.values())
    per_class = f"{min(counts)} to {max(counts)}, median {np.median(counts):g}" if counts else "-"
    kinds = ", ".join(f"{kind} {number:,}" for kind, number in found.kinds().items() if number)
    return [
        found.name,
        f"{len(found.images):,}",
        f"{len(counts)}" if counts else "no labels",
        per_class,
        kinds or "nothing special",
        sizes(found.looks),
        reasons(counted(found.domain.left_out)) or "nothing",
    ]


def _files(found: Details) -> list[FileList]:
    """Return lists of the files of a domain that are left out or should be looked at."""
    groups: list[FileList] = []
    for reason, count in counted(found.domain.left_out).items():
        same = [left for left in found.domain.left_out if left.reason == reason]
        lines = [f"{a.path} ({a.files} files)" if a.files > 1 else str(a.path) for a in same]
        groups.append(_listed(f"left out: {reason}", count, lines))
    looked = {
        "cannot be read": [look.problem for look in found.looks if look.problem],
        "of one colour": [str(path) for path in found.chosen("blank")],
        "copies": [f"{other} of {one}" for one, other in found.repeats.copies],
        "copies with another label": [f"{b} of {a}" for a, b in found.repeats.conflicts],
    }
    return groups + [_listed(kind, len(lines), lines) for kind, lines in looked.items() if lines]


def _listed(kind: str, count: int, lines: Sequence[str]) -> FileList:
    return FileList(kind, count, lines[:_LISTED], max(len(lines) - _LISTED, 0))
