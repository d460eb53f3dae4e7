"""Show the report of a comparison, as text or as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from itertools import islice
from typing import Any

from runtime.benchmark.latency import machine_text
from runtime.console import bytes_text, count_of, table
from runtime.markdown import markdown_table, markdown_text
from runtime.text import printable

Values = dict[str, Any]
"""The report, or a row of it."""
_SHOWN = 6
"""Largest number of tasks to name."""


def text(report: Values) -> str:
    """Return a report as text for people."""
    parts = []
    if report["rows"]:
        parts.append(table(*_table(report["rows"])))
    if report["left_out"]:
        parts.append("\n".join(["left out", *(f"  {printable(line)}" for line in _left(report))]))
    parts.append("\n".join(map(printable, report["sentences"])))
    parts.append("\n".join(map(printable, _conditions(report))))
    return "\n\n".join(parts)


def markdown(report: Values) -> str:
    """Return a report as Markdown."""
    parts = []
    if report["rows"]:
        parts.append(markdown_table(*_table(report["rows"])))
    first, *others = map(markdown_text, report["sentences"])
    parts += [f"**{first}**", *others]
    if report["left_out"]:
        lines = "\n".join(f"- {markdown_text(line)}" for line in _left(report))
        parts.append(f"Left out:\n\n{lines}")
    parts += [markdown_text(line) for line in _conditions(report)]
    return "\n\n".join(parts) + "\n"


def _table(rows: list[Values]) -> tuple[list[str], list[list[str]]]:
    """Return header and cells, without the columns that are empty in all rows."""
    columns = {name: [cell(row) for row in rows] for name, cell in _CELLS.items()}
    shown = {name: cells for name, cells in columns.items() if any(cells)}
    return list(shown), [list(cells) for cells in zip(*shown.values(), strict=True)]


def _left(report: Values) -> Iterator[str]:
    for each in report["left_out"]:
        yield f"{each['what']}: {each['reason']}"


def _conditions(report: Values) -> Iterator[str]:
    """Yield what the numbers mean, and how they were measured."""
    if report["interrupted"]:
        yield "interrupted: this is what was measured until then"
    for name, reason in list(report["unread"].items())[:1]:
        named = "" if f"'{name}'" in reason else f"{name}: "
        count = count_of(len(report["unread"]), "image")
        yield f"{count} could not be compared, the first: {named}{reason}"
    reference = next((row for row in report["rows"] if row["reference"]), None)
    if reference is not None and reference["answers"]:
        counts, what = reference["answers"], report["compared_on"]
        by = _named(reference["answers_by_task"])
        yield (
            f"{count_of(counts['frames'], 'answer')} on {what}, by {by}, compared with those of "
            f"{reference['name']} in {reference['precision']}, whose logits span "
            f"{counts['spread']:.3g} on average"
        )
        if what == "noise":
            yield "noise shows only that numbers agree; pass --images to compare on your own images"
    yield (
        f"{report['samples']} predictions each, in {count_of(report['rounds'], 'round')} over the "
        f"candidates in random order (seed {report['seed']}), after {report['warmup']} to warm up; "
        f"images/s in batches of {report['batch']}"
    )
    tasks = f"{count_of(len(report['tasks']), 'task')} in memory ({_named(report['tasks'])})"
    yield (
        f"{tasks}, frame {report['frame']}, threads {report['threads'] or 'default'}; "
        f"{machine_text(report['machine'])}"
    )


def _named(tasks: Collection[str]) -> str:
    """Return the names of tasks as text, at most a few of them."""
    return ", ".join([*islice(tasks, _SHOWN), *(["..."] if len(tasks) > _SHOWN else [])])


def _ms(times: Values | None, which: str) -> str:
    return "" if times is None else f"{times[which]:.3f}"


def _rate(row: Values) -> str:
    rate = row["images_per_second"]
    return "" if rate is None else f"{rate:.1f}"


def _gpu(row: Values) -> str:
    return "" if row["device_bytes"] is None else bytes_text(row["device_bytes"])


def _same(row: Values) -> str:
    counts = row["answers"]
    if not counts or not counts["frames"]:
        return ""
    return "reference" if row["reference"] else f"{counts['same_top_class']}/{counts['frames']}"


def _difference(row: Values) -> str:
    counts = row["answers"]
    if not counts or not counts["frames"] or row["reference"]:
        return ""
    return f"{counts['max_difference']:.1e}"


def _accuracy(row: Values) -> str:
    counts = row["answers"]
    return f"{counts['accuracy']:.1f} %" if counts and counts["accuracy"] is not None else ""


_CELLS: dict[str, Callable[[Values], str]] = {
    "candidate": lambda row: str(row["name"]),
    "precision": lambda row: str(row["precision"]),
    "p50 ms": lambda row: _ms(row["predict_ms"], "p50"),
    "p99 ms": lambda row: _ms(row["predict_ms"], "p99"),
    "images/s": _rate,
    "switch ms": lambda row: _ms(row["switch_ms"], "p50"),
    "memory": lambda row: bytes_text(row["peak_rss_bytes"]),
    "GPU memory": _gpu,
    "same class": _same,
    "max diff": _difference,
    "accuracy": _accuracy,
}
"""The cells of each column."""
