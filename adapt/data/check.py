"""Compare the images of a data set on disk with the published counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from adapt import data
from adapt.data.base import pick, some
from adapt.data.benchmark import Benchmark
from runtime.console import table
from runtime.errors import DataError

_HEADER = ("domain", "short", "classes", "train", "test", "published", "difference")
_ALWAYS = ("domain", "classes", "train")


@dataclass(frozen=True)
class DomainCheck:
    """Images and classes of one domain, and those that it lacks."""

    domain: str
    short: str
    classes: tuple[str, ...] = ()
    """Names of the classes found, sorted."""
    train: int = 0
    """Number of training images, or of all images if the data set has no split."""
    test: int = 0
    published: int | None = None
    """Published number of images over all splits."""
    missing: tuple[str, ...] = ()
    """Classes that were published, or that another domain has."""
    unknown: tuple[str, ...] = ()
    """Classes that were not published."""
    untrained: tuple[str, ...] = ()
    """Classes with test images only."""
    problem: str | None = None
    """Reason why the domain cannot be used."""

    @property
    def images(self) -> int:
        """Number of images over all splits."""
        return self.train + self.test

    def against(self, classes: Set[str]) -> DomainCheck:
        """Return the row with its missing and unknown classes filled in."""
        missing, unknown = classes - set(self.classes), set(self.classes) - classes
        return replace(self, missing=tuple(sorted(missing)), unknown=tuple(sorted(unknown)))

    def cells(self) -> tuple[str, ...]:
        """Return the row for a table with `_HEADER`."""
        published = "-" if self.published is None else f"{self.published:,}"
        if self.problem:
            return (self.domain, self.short, "-", "-", "-", published, "-")
        difference = self.images - (self.published or 0)
        return (
            self.domain,
            self.short,
            str(len(self.classes)),
            f"{self.train:,}",
            f"{self.test:,}" if self.test else "-",
            published,
            "-" if self.published is None else f"{difference:+,}" if difference else "0",
        )

    def notes(self) -> Iterator[str]:
        """Yield the differences from the published data set, one line each."""
        if self.problem:
            yield self.problem
        if self.missing and not self.problem:
            yield f"missing {_classes(self.missing)}"
        if self.unknown:
            yield f"has unpublished {_classes(self.unknown)}"
        if self.untrained:
            yield f"has test images only of {_classes(self.untrained)}"
        if self.published and not self.problem and self.images != self.published:
            yield f"has {self.images:,} images, published: {self.published:,}"


@dataclass(frozen=True)
class Report:
    """All domains of a data set."""

    dataset: str
    class_count: int
    """Number of classes, published or else found in all domains together."""
    rows: tuple[DomainCheck, ...]
    notes: tuple[str, ...]
    """Differences from the published data set."""
    unusable: str | None
    """Reason why training cannot start, in one line; None if it can."""

    def table(self) -> str:
        """Return the domains as a table, without columns that are empty for all of them."""
        columns = list(zip(_HEADER, *(row.cells() for row in self.rows), strict=True))
        shown = [c for c in columns if c[0] in _ALWAYS or any(cell != "-" for cell in c[1:])]
        header, *rows = map(list, zip(*shown, strict=True))
        if "test" not in header:
            header[header.index("train")] = "images"
        return table(header, rows)

    def as_dict(self) -> dict[str, Any]:
        """Return the report for a JSON file."""
        rows = [vars(row) | {"images": row.images} for row in self.rows]
        return vars(self) | {"rows": rows, "usable": self.unusable is None}


def named(dataset: str, root: Path | None, task: str | None = None) -> Report:
    """Check a named data set.

    Args:
        dataset: Name of the data set.
        root: Folder of the data set.
        task: Task whose two domains alone are checked; None checks all.

    Raises:
        DataError: The data set is unknown, or `root` is missing.
        TaskError: The data set has no such task.
    """
    found = data.get(dataset)
    shorts = list(found.domains)
    if task is not None:
        pick(task, dataset, {short: domain.name for short, domain in found.domains.items()})
        shorts = list(dict.fromkeys(task.split("-")))
    if isinstance(found, Benchmark):
        found.root(root)  # a missing root concerns all domains
    rows = []
    for short in shorts:
        domain = found.domains[short]
        rows.append(row_of(domain.name, short, domain.images, partial(found.survey, root, short)))
    report = report_of(dataset, rows, found.classes, found.class_count)
    remarks = found.remarks(root, shorts) if isinstance(found, Benchmark) and root else []
    return replace(report, notes=(*report.notes, *remarks))


def row_of(
    name: str, short: str, published: int | None, survey: Callable[[], dict[str, Counter[str]]]
) -> DomainCheck:
    """Return the row of a domain.

    Args:
        name: Name of the domain.
        short: Short name of the domain.
        published: Published number of images, if known.
        survey: Function that returns the images per class by split, or raises a `DataError`.
    """
    try:
        counts = survey()
    except DataError as error:
        return DomainCheck(name, short, published=published, problem=str(error))
    train = counts.get("all") or counts["train"]
    test = counts.get("test", Counter())
    classes = tuple(sorted(name for name in {*train, *test} if name))
    untrained = tuple(name for name in classes if test and not train[name])
    return DomainCheck(
        name, short, classes, train.total(), test.total(), published, untrained=untrained
    )


def report_of(
    dataset: str, rows: list[DomainCheck], classes: tuple[str, ...], number: int, every: bool = True
) -> Report:
    """Compare domains with each other and with the published data set.

    Args:
        dataset: Name of the data set.
        rows: Domains to compare.
        classes: Published class names, if known.
        number: Published number of classes; 0 if unknown.
        every: Whether all domains must be usable, rather than two.
    """
    labelled = [row for row in rows if row.classes]
    expected = set(classes) or {name for row in labelled for name in row.classes}
    rows = [row.against(expected) if row.classes else row for row in rows]
    unusable = _why(rows, every)
    alike = _alike(rows, unusable or "")
    notes = [f"{row.domain}: {note}" for row in rows if row not in alike for note in row.notes()]
    if number and labelled and not classes and len(expected) != number:
        notes.append(
            f"all domains: {len(expected)} classes, published: {number}; compare with "
            "the original, since the published names are not part of this project"
        )
    return Report(dataset, number or len(expected), tuple(rows), tuple(notes), unusable)


def _alike(rows: list[DomainCheck], error: str) -> list[DomainCheck]:
    """Return the rows whose problem the error names already."""

    def described(row: DomainCheck) -> str:
        return str(row.problem).replace(f"'{row.domain}'", "")

    broken = [row for row in rows if row.problem]
    named = [described(row) for row in broken if error.startswith(str(row.problem))]
    return [row for row in broken if described(row) in named]


def _why(rows: list[DomainCheck], every: bool) -> str | None:
    broken, usable = [row for row in rows if row.problem], [row for row in rows if not row.problem]
    if broken and (every or len(usable) < 2):
        others = ", ".join(f"'{row.domain}'" for row in broken[1:])
        return f"{broken[0].problem}" + (f" (unusable too: {others})" if others else "")
    sets = {row.classes: row for row in usable if row.classes}
    # A task needs two domains of the same classes, or a target without labels.
    possible = len(sets) < len(usable) and bool(sets)
    if len(sets) > 1 and (every or not possible):
        first, second = list(sets.values())[:2]
        here, there = set(first.classes), set(second.classes)
        sides = ((first.domain, there - here), (second.domain, here - there))
        found = "; ".join(f"'{name}' lacks {some(sorted(gone))}" for name, gone in sides if gone)
        partial = rows[0].published is None and (here < there or there < here)
        other = ", or train with --set partial=true towards the one that lacks some"
        return f"the classes differ: {found}; complete the images{other if partial else ''}"
    return None


def _classes(names: tuple[str, ...]) -> str:
    return f"{len(names)} class{'es' if len(names) > 1 else ''}: {some(names)}"
