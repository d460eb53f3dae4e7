"""Find the images of a data set that cannot be decoded."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from adapt import data
from adapt.data.base import ImageSet
from adapt.data.benchmark import Benchmark
from adapt.data.cache import UNREADABLE
from adapt.data.check import DomainCheck, Report
from runtime.errors import DataError
from runtime.frames.preprocess import read_image


def decoded(
    report: Report, root: Path | None, dataset: str
) -> tuple[Report, dict[str, list[Path]]]:
    """Return a report after reading every image, and the unreadable ones by domain.

    A domain of which training would leave out too many makes the data set unusable.

    Args:
        report: Report of `adapt.data.check`.
        root: Folder of the data set.
        dataset: Name of the data set.

    Raises:
        DataError: The images cannot be found.
    """
    lost: dict[str, list[Path]] = {}
    notes, unusable = list(report.notes), report.unusable
    for row in report.rows:
        if row.problem:
            continue
        sides = _sides(root, dataset, row)
        bad = lost[row.domain] = _unreadable(sides)
        if bad:
            note = f"{row.domain}: {len(bad)} of {row.images:,} images cannot be read, the first: "
            notes.append(f"{note}'{bad[0]}'")
        if any(_share(side, bad) >= UNREADABLE for side in sides):
            unusable = unusable or (
                f"{len(bad)} of {row.images:,} images of '{row.domain}' cannot be read; training "
                f"tolerates less than {100 * UNREADABLE:g} %; repair or remove them, the first is "
                f"'{bad[0]}'"
            )
    return replace(report, notes=tuple(notes), unusable=unusable), lost


def _sides(root: Path | None, dataset: str, row: DomainCheck) -> Sequence[ImageSet]:
    """Return the image sets of a domain, as training would see them."""
    found = data.get(dataset)
    if isinstance(found, Benchmark):
        return list(found.read(found.root(root), row.short).splits().values())
    pair = found.load(f"{row.short}-{row.short}", root=root)
    return [pair.source, pair.target, pair.test]


def _unreadable(sides: Sequence[ImageSet]) -> list[Path]:
    paths = tuple(dict.fromkeys(path for images in sides for path in images.paths))

    def bad(path: Path) -> bool:
        try:
            read_image(path)
        except DataError:
            return True
        return False

    with ThreadPoolExecutor() as pool:
        return [path for path, is_bad in zip(paths, pool.map(bad, paths), strict=True) if is_bad]


def _share(side: ImageSet, bad: Sequence[Path]) -> float:
    return len(set(bad) & set(side.paths)) / len(side)
