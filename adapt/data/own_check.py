"""Check every file in the user's own folders before training."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from adapt.data import spelling
from adapt.data.base import ImageSet
from adapt.data.benchmark import count
from adapt.data.check import DomainCheck, Report, report_of, row_of
from adapt.data.class_folders import folders, leads_up
from adapt.data.inspection.details import Details, across
from adapt.data.origin import absolute
from adapt.data.own_domains import NO_LABELS, OwnDomain, read_side
from runtime.errors import DataError
from runtime.inventory.left_out import LeftOut
from runtime.inventory.walk import LOOP, walk
from runtime.storage import disk
from runtime.text import quoted


@dataclass(frozen=True)
class OwnReport:
    """A report with the full inventory of every usable domain."""

    report: Report
    details: tuple[Details, ...]
    beside: tuple[LeftOut, ...] = ()
    """Files in the data set's folder outside of every domain."""


def own(root: Path, source: str | None = None, target: str | None = None) -> OwnReport:
    """Return the report of a folder of the user's own images; every image is read.

    Args:
        root: Folder of the domains.
        source: Labelled domain, as a folder or list file.
        target: Unlabelled domain, likewise; without both, every folder is a domain.

    Raises:
        DataError: No domain folders were found, or a file disappears meanwhile.
    """
    source, target = (name and spelling.inside(root, name) for name in (source, target))
    names = tuple(name for name in (source, target) if name)
    chosen = tuple(dict.fromkeys(names)) or tuple(folders(root))
    beside = () if names else _beside(root)
    if not chosen:
        raise DataError(f"'{root}' has no folders; it needs one folder per domain")
    usable: dict[str, OwnDomain] = {}

    def survey(name: str) -> dict[str, Counter[str]]:
        usable[name] = domain = read_side(root, name, lenient=True)
        if domain.test is None:
            return {"all": _count(domain.train)}
        return {"train": _count(domain.train), "test": _count(domain.test)}

    rows = [row_of(name, "-", None, partial(survey, name)) for name in chosen]
    report = report_of(disk.real(root).name or "folder", rows, (), 0, every=bool(names))
    details = tuple(Details.of(name, domain) for name, domain in usable.items())
    notes = [f"{found.name}: {warning}" for found in details for warning in found.warnings()]
    refusals = [reason for found in details if (reason := found.refusal())]
    unlabelled = _unlabelled(root, source, rows, every=not names)
    report = replace(
        report,
        notes=(*report.notes, *notes, *across(details)),
        # An empty class folder is also why the classes differ: the cause is the better message.
        unusable=next(iter(refusals), None) or report.unusable or unlabelled,
    )
    return OwnReport(report, details, beside)


def _unlabelled(root: Path, source: str | None, rows: list[DomainCheck], every: bool) -> str | None:
    """Return why no domain, or not the named one, can be a source."""
    labelled = {row.domain for row in rows if row.classes or row.problem}
    if source is not None and source not in labelled:
        return f"the source '{root / source}' {NO_LABELS}"
    if every and not labelled:
        above = quoted(Path(absolute(root)).parent)
        return (
            f"no folder of '{root}' has class folders, expected ROOT/<domain>/<class>/*.jpg; if "
            f"'{root}' is itself a domain, pass --data {above}"
        )
    return None


def _beside(root: Path) -> tuple[LeftOut, ...]:
    tree = walk(root, recursive=False)
    loose = tuple(LeftOut(path, "images in no domain") for path in tree.images.get("", ()))
    up = tuple(LeftOut(root / n, LOOP) for n in tree.folders if leads_up(root / n))
    return tree.left_out + loose + up


def _count(images: ImageSet) -> Counter[str]:
    return count(images) if images.classes else Counter({"": len(images)})
