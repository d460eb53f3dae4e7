"""Write the report of `uda-adapt data check --report`, a single HTML file."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from html import escape
from pathlib import Path

import numpy as np

from adapt.data.inspection.details import Details, sizes
from adapt.data.inspection.sheet import sheet, spaced
from runtime.inventory.left_out import counted, reasons
from runtime.storage.writing import write_bytes

_SHOWN = 50
"""Number of paths that are listed of each kind."""
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1180px; padding: 0 1rem }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem }
table { border-collapse: collapse } th, td { border: 1px solid var(--line); padding: .35rem .6rem;
  text-align: left; vertical-align: top } th { background: var(--soft); font-weight: 600 }
td.n { text-align: right; font-variant-numeric: tabular-nums }
img { display: block; max-width: 100% }
.sheets { table-layout: fixed; width: 100% } .sheets th:first-child { width: 9rem }
.sheets th { overflow-wrap: anywhere } small { opacity: .7 } li { overflow-wrap: anywhere }
.bad { border-left: 4px solid #d33; background: #d331; padding: .5rem .8rem }
.scroll { overflow-x: auto } details { margin: .3rem 0 }
"""


def write_page(
    path: Path, title: str, details: Sequence[Details], notes: Sequence[str], unusable: str | None
) -> None:
    """Write the inventory of a data set, with a contact sheet per class and domain.

    Args:
        path: File to write, whole or not at all.
        title: Name of the data set.
        details: Domains of the data set.
        notes: Warnings.
        unusable: Reason why training cannot start, or None.

    Raises:
        StorageError: The file cannot be written.
    """
    verdict = f"<p class=bad>Training would refuse: {_text(unusable)}</p>" if unusable else ""
    listed = "".join(f"<li>{_text(note)}</li>" for note in notes)
    body = [
        f"<h1>{_text(title)}</h1><p><small>Images that are taken, and files that are left out, as "
        f"<code>uda-adapt data check</code> found them.</small></p>{verdict}",
        f"<h2>Worth a look</h2><ul>{listed}</ul>" if listed else "",
        f"<h2>Domains</h2><div class=scroll>{_domains(details)}</div>",
        f"<h2>Classes</h2>{_sheets(details)}",
        "<h2>Files</h2>",
        *(_files(found) for found in details),
    ]
    head = (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>{_text(title)}: inventory</title><style>{_STYLE}</style>"
    )
    page = "\n".join([head, *filter(None, body)])
    write_bytes(path, page.encode(errors="backslashreplace"))  # not every name of a file is text


def _domains(details: Sequence[Details]) -> str:
    header = ("domain", "images", "classes", "per class", "kinds", "sizes", "left out")
    rows = []
    for found in details:
        counts = tuple(found.counts.values())
        per_class = (
            f"{min(counts)} to {max(counts)}, median {np.median(counts):g}" if counts else ""
        )
        kinds = ", ".join(f"{kind} {number:,}" for kind, number in found.kinds().items() if number)
        left_out = reasons(counted(found.domain.left_out))
        rows.append(
            f"<tr><th>{_text(found.name)}</th><td class=n>{len(found.images):,}</td>"
            f"<td class=n>{len(counts) or 'no labels'}</td><td>{per_class}</td>"
            f"<td>{kinds or 'nothing special'}</td><td>{_text(sizes(found.looks))}</td>"
            f"<td>{_text(left_out) or 'nothing'}</td></tr>"
        )
    head = "".join(f"<th>{name}</th>" for name in header)
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _sheets(details: Sequence[Details]) -> str:
    """Return a table of contact sheets: a row for each class, a column for each domain."""
    classes = sorted({name for found in details for name in found.counts})
    if any(not found.counts for found in details):
        classes.append("")  # images without labels
    members = [[_members(found, name) for found in details] for name in classes]
    with ThreadPoolExecutor() as pool:
        cells = [list(pool.map(_cell, row)) for row in members]
    head = "".join(f"<th>{_text(found.name)}</th>" for found in details)
    rows = "".join(
        f"<tr><th>{_text(name) or 'without labels'}</th>{''.join(row)}</tr>"
        for name, row in zip(classes, cells, strict=True)
    )
    return f"<table class=sheets><tr><th>class</th>{head}</tr>{rows}</table>"


def _members(found: Details, name: str) -> list[Path]:
    if not found.counts:
        return [] if name else list(found.images.paths)
    if name not in found.counts:
        return []
    at = np.flatnonzero(found.images.labels == found.images.classes.index(name))
    return [found.images.paths[index] for index in at]


def _cell(paths: Sequence[Path]) -> str:
    if not paths:
        return "<td>none</td>"
    shown = spaced(paths)
    picture = base64.b64encode(sheet(shown)).decode()
    names = escape(", ".join(path.name for path in shown), quote=True)
    return (
        f"<td><img alt='' title=\"{names}\" src='data:image/jpeg;base64,{picture}'>"
        f"<small>{len(paths):,} image{'s' if len(paths) != 1 else ''}</small></td>"
    )


def _files(found: Details) -> str:
    """Return lists of the files of a domain that are left out or should be looked at."""
    blocks = []
    for reason, count in counted(found.domain.left_out).items():
        same = [left for left in found.domain.left_out if left.reason == reason]
        lines = [f"{a.path} ({a.files} files)" if a.files > 1 else str(a.path) for a in same]
        blocks.append(_block(f"left out: {reason}", count, lines))
    groups = {
        "cannot be read": [look.problem for look in found.looks if look.problem],
        "of one colour": [str(path) for path in found.chosen("blank")],
        "copies": [f"{other} of {one}" for one, other in found.repeats.copies],
        "copies with another label": [f"{b} of {a}" for a, b in found.repeats.conflicts],
    }
    blocks += [_block(name, len(lines), lines) for name, lines in groups.items() if lines]
    return f"<h3>{_text(found.name)}</h3>{''.join(blocks) or '<p>Every file is taken.</p>'}"


def _block(name: str, count: int, files: Sequence[str]) -> str:
    items = "".join(f"<li>{_text(file)}</li>" for file in files[:_SHOWN])
    more = f"<li>and {len(files) - _SHOWN:,} more: --json lists all</li>" if files[_SHOWN:] else ""
    head = f"<summary>{_text(name)} ({count:,})</summary>"
    return f"<details>{head}<ul>{items}{more}</ul></details>"


def _text(text: str | None) -> str:
    """Return text for HTML; bytes that are not text are escaped."""
    return escape(str(text or "").encode("utf-8", "backslashreplace").decode())
