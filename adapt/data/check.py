"""What there is of a data set, against what was published, before any training starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from adapt import data
from adapt.data.base import ImageSet, pick, some
from adapt.data.benchmark import Benchmark, count
from adapt.data.folder import folders, read_side
from runtime.errors import DataError
from runtime.preprocess import read_image

HEADER = ("domain", "short", "classes", "train", "test", "published", "difference")


@dataclass(frozen=True)
class Row:
    """One domain."""

    domain: str
    short: str
    classes: tuple[str, ...] = ()
    """Found, by name."""
    train: int = 0
    """Images, or all of them where there is no split."""
    test: int = 0
    published: int | None = None
    """Images over all splits."""
    missing: tuple[str, ...] = ()
    """Classes that were published, or that another domain has."""
    unknown: tuple[str, ...] = ()
    """Classes that were not published."""
    untrained: tuple[str, ...] = ()
    """Classes with test images only."""
    problem: str | None = None
    """Why the domain cannot be used."""

    @property
    def images(self) -> int:
        """Images over all splits."""
        return self.train + self.test

    def against(self, classes: Set[str]) -> Row:
        """Return the row with what it has less, and more, than some classes."""
        missing, unknown = classes - set(self.classes), set(self.classes) - classes
        return replace(self, missing=tuple(sorted(missing)), unknown=tuple(sorted(unknown)))

    def cells(self) -> tuple[str, ...]:
        """Return the row for a table with `HEADER`."""
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
        """Yield what is wrong, one line each."""
        if self.problem:
            yield self.problem
        if self.missing and not self.problem:
            yield f"missing {_classes(self.missing)}"
        if self.unknown:
            yield f"has {_classes(self.unknown)} that nobody published"
        if self.untrained:
            yield f"has test images only of {_classes(self.untrained)}"
        if self.published and not self.problem and self.images != self.published:
            yield f"has {self.images:,} images, published are {self.published:,}"


@dataclass(frozen=True)
class Report:
    """What there is of a data set."""

    dataset: str
    class_count: int
    """Published, or found in all domains together."""
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    """Everything that is not as published."""
    unusable: str | None
    """Why training cannot start, in one line; None if it can."""

    def as_dict(self) -> dict[str, Any]:
        """Return the report for a JSON file."""
        rows = [vars(row) | {"images": row.images} for row in self.rows]
        return vars(self) | {"rows": rows, "usable": self.unusable is None}


def named(dataset: str, root: Path | None, task: str | None = None) -> Report:
    """Return what there is of a named data set.

    Args:
        dataset: A key of `adapt.data.DATASETS`.
        root: Its folder.
        task: Check only the two domains of this task.

    Raises:
        DataError: The data set is unknown, or `root` is missing.
        TaskError: It has no such task.
    """
    found = data.get(dataset)
    shorts = list(found.domains)
    if task is not None:
        pick(task, dataset, {short: domain.name for short, domain in found.domains.items()})
        shorts = list(dict.fromkeys(task.split("-")))
    if isinstance(found, Benchmark):
        found.root(root)  # a missing root is no problem of a single domain
    rows = []
    for short in shorts:
        domain = found.domains[short]
        rows.append(_row(domain.name, short, domain.images, partial(found.survey, root, short)))
    return _report(dataset, rows, found.classes, found.class_count)


def own(root: Path, names: tuple[str, ...] = ()) -> Report:
    """Return what there is in a folder of the user's own images.

    Args:
        root: Folder of the domains.
        names: Domain folders or list files; all folders if empty.

    Raises:
        DataError: There are no folders.
    """
    chosen = names or tuple(folders(root))
    if not chosen:
        raise DataError(f"'{root}' has no folders; it needs one folder per domain")
    rows = [_row(name, "-", None, partial(_counts, root, name)) for name in chosen]
    return _report(root.resolve().name or "folder", rows, (), 0, every=bool(names))


def unreadable(root: Path | None, dataset: str | None, row: Row) -> list[Path]:
    """Return the images of a domain that cannot be decoded; takes as long as reading them all.

    Args:
        root: Folder of the data set.
        dataset: Its name, or None for the user's own folders.
        row: Its domain, without a problem.

    Raises:
        DataError: The images cannot be found.
    """
    sides: Iterable[ImageSet]
    if dataset is None:
        paths = read_side(root or Path(), row.domain).paths
    else:
        found = data.get(dataset)
        if isinstance(found, Benchmark):
            sides = found.read(found.root(root), row.short).splits().values()
        else:
            pair = found.load(f"{row.short}-{row.short}", root=root)
            sides = (pair.source, pair.target, pair.test)
        paths = tuple(dict.fromkeys(path for images in sides for path in images.paths))

    def bad(path: Path) -> bool:
        try:
            read_image(path)
        except DataError:
            return True
        return False

    with ThreadPoolExecutor() as pool:
        return [path for path, is_bad in zip(paths, pool.map(bad, paths), strict=True) if is_bad]


def _counts(root: Path, name: str) -> dict[str, Counter[str]]:
    images = read_side(root, name)
    return {"all": count(images) if images.classes else Counter({"": len(images)})}


def _row(
    name: str, short: str, published: int | None, survey: Callable[[], dict[str, Counter[str]]]
) -> Row:
    try:
        counts = survey()
    except DataError as error:
        return Row(name, short, published=published, problem=str(error))
    train = counts.get("all") or counts["train"]
    test = counts.get("test", Counter())
    classes = tuple(sorted(name for name in {*train, *test} if name))
    untrained = tuple(name for name in classes if test and not train[name])
    return Row(name, short, classes, train.total(), test.total(), published, untrained=untrained)


def _report(
    dataset: str, rows: list[Row], classes: tuple[str, ...], number: int, every: bool = True
) -> Report:
    """Compare domains with each other and with what was published.

    Args:
        dataset: Name.
        rows: Domains.
        classes: Published names, if known.
        number: Of published classes; 0 if nobody did.
        every: All domains must be usable; else two.
    """
    labelled = [row for row in rows if row.classes]
    expected = set(classes) or {name for row in labelled for name in row.classes}
    rows = [row.against(expected) if row.classes else row for row in rows]
    notes = [f"{row.domain}: {note}" for row in rows for note in row.notes()]
    if number and labelled and not classes and len(expected) != number:
        notes.append(f"all domains: {len(expected)} classes, published are {number}")
    return Report(dataset, number or len(expected), tuple(rows), tuple(notes), _why(rows, every))


def _why(rows: list[Row], every: bool) -> str | None:
    broken = [row for row in rows if row.problem]
    if broken and (every or len(broken) == len(rows)):
        more = f" (and {len(broken) - 1} more domains)" if len(broken) > 1 else ""
        return f"{broken[0].problem}{more}"
    sets = {row.classes: row for row in rows if row.classes}
    if every and len(sets) > 1:
        first, second = list(sets.values())[:2]
        here, there = set(first.classes), set(second.classes)
        sides = ((first.domain, there - here), (second.domain, here - there))
        found = "; ".join(f"'{name}' lacks {some(sorted(gone))}" for name, gone in sides if gone)
        return f"the classes differ: {found}; complete the images"
    return None


def _classes(names: tuple[str, ...]) -> str:
    return f"{len(names)} class{'es' if len(names) > 1 else ''}: {some(names)}"
