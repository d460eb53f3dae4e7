"""Tabulate the runs of a sweep as papers print theirs, beside published figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from statistics import mean, stdev

from adapt.artifacts import store
from adapt.published import By, Published, PublishedRow
from adapt.sweep.jobs import Job
from adapt.sweep.results import EPOCHS, Result
from runtime.console import table
from runtime.markdown import markdown_table

CPRS = frozenset(f"{s}-{t}" for s in "cprs" for t in "cprs" if s != t)
"""DomainNet tasks that some papers restrict themselves to."""
_EPOCH_NAMES = {"selected": "chosen"}
"""Names of epochs for people."""
PARTIAL_CLASSES = 25
"""Number of target classes in the papers' partial tasks, the first ones by name."""


@dataclass(frozen=True)
class Line:
    """One line: our figures with a value per seed, or published ones with one value."""

    label: str
    values: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Values by column, in percent."""
    averages: tuple[float, ...] = ()
    stored: tuple[float, ...] = ()
    """Parameters of all tasks together, in millions."""
    published: bool = False
    own: bool = True
    """Whether it is of the variant that was swept."""
    note: str = ""

    def cells(self, columns: Sequence[str], digits: int = 1) -> list[str]:
        """Return the line as text: label, one cell per column, average, parameters."""
        inner = [spread(self.values.get(column, ()), digits) for column in columns]
        stored = f"{mean(self.stored):.4g}" if self.stored else ""
        return [self.label, *inner, spread(self.averages, digits), stored]


@dataclass(frozen=True)
class Table:
    """Lines with common columns."""

    by: By
    columns: tuple[str, ...]
    lines: tuple[Line, ...]
    unit: str = "%"
    """Unit or name of the figures."""
    digits: int = 1
    """Decimals of the figures."""

    def text(self, every: bool = False) -> str:
        """Return aligned columns; without `every`, no lines of other variants without values."""
        lines = [line for line in self.lines if every or line.values or line.own]
        return table(self.header, [line.cells(self.columns, self.digits) for line in lines])

    def markdown(self) -> str:
        """Return all lines as a Markdown table."""
        return markdown_table(self.header, self.rows()) + "\n"

    def rows(self) -> list[list[str]]:
        """Return all lines as cells of text."""
        return [line.cells(self.columns, self.digits) for line in self.lines]

    def notes(self) -> list[str]:
        """Return the notes on comparability, a line each."""
        return [f"{line.label}: {line.note}" for line in self.lines if line.note]

    @property
    def header(self) -> tuple[str, ...]:
        """Names of the cells of a line."""
        return self.unit, *self.columns, "mean", "M param."


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Return mean and sample standard deviation: `79.3±0.2`, `79.3` of one value, `-` of none."""
    if not values:
        return "-"
    shown = f"{mean(values):.{digits}f}"
    return shown + (f"±{stdev(values):.{digits}f}" if len(values) > 1 else "")


def protocol(job: Job, tasks: Sequence[str]) -> str:
    """Return which of the papers' protocols a sweep follows, see `adapt.published.Protocol`.

    A partial task unlike theirs is `other`, of which nothing is published.
    """
    if job.config.partial:
        return "partial" if job.config.target_classes == PARTIAL_CLASSES else "other"
    return "cprs" if job.dataset == "domainnet" and CPRS == set(tasks) else "standard"


def tables(
    jobs: Sequence[Job], results: Sequence[Result], every: Sequence[str], known: Published | None
) -> list[Table]:
    """Return the tables of a sweep; the first is for the screen.

    Columns are tasks; or classes, where papers print a recall by class; or target domains and then
    tasks, where they print means by target and all tasks were run.

    Args:
        jobs: Runs of the sweep.
        results: Results of the finished runs.
        every: All tasks of the data set.
        known: Published figures of the data set.
    """
    tasks = tuple(dict.fromkeys(job.task for job in jobs))
    follows = protocol(jobs[0], tasks)
    whole = set(tasks) == set(every) or follows == "cprs"
    kinds: list[By] = ["tasks"]
    columns: dict[By, tuple[str, ...]] = {"tasks": tasks}
    if known and whole and follows == "standard":
        for by in ("classes", "targets"):
            if by in known.columns:
                kinds.insert(0, by)
                columns[by] = known.columns[by]
    rows = known.of(jobs[0].config.model, follows) if known else ()
    variant = jobs[0].path.parent.name
    family = store.family(jobs[0].method, asdict(jobs[0].config))
    rows = tuple(sorted(rows, key=lambda row: row.variant != family))
    metric = known.metric if known else "accuracy"
    return [
        Table(by, columns[by], (
            *our_lines(by, columns[by], tasks, variant, results, metric),
            *(_theirs(by, columns[by], rows, family, known, whole) if known else ()),
        ))
        for by in kinds
    ]  # fmt: skip


def our_lines(
    by: By,
    columns: Sequence[str],
    tasks: Sequence[str],
    variant: str,
    results: Sequence[Result],
    metric: str,
) -> list[Line]:
    """Return a line for each of `EPOCHS` that has figures.

    Args:
        by: What the columns are.
        columns: Names of the columns.
        tasks: Tasks of the sweep.
        variant: Name of the variant, for the labels.
        results: Results of that variant.
        metric: Figure to show.
    """
    runs = {(result.task, result.seed): result for result in results}
    seeds = sorted({result.seed for result in results})
    lines = []
    for epoch in EPOCHS:
        cells: dict[tuple[str, int], float] = {}
        for column, seed in product(columns, seeds):
            found = [runs.get((task, seed)) for task in _tasks_of(column, by, tasks)]
            numbers = [run.figure(epoch, metric, by, column) if run else None for run in found]
            known = [number for number in numbers if number is not None]
            if known and len(known) == len(numbers):
                cells[column, seed] = mean(known)
        if not cells:
            continue
        whole = [s for s in seeds if all((column, s) in cells for column in columns)]
        done = [s for s in seeds if all((task, s) in runs for task in tasks)]
        lines.append(
            Line(
                f"{variant}, {_EPOCH_NAMES.get(epoch, epoch)}",
                {c: tuple(cells[c, s] for s in seeds if (c, s) in cells) for c in columns},
                tuple(mean(cells[column, s] for column in columns) for s in whole),
                tuple(sum(runs[task, s].stored for task in tasks) / 1e6 for s in done),
            )
        )
    return lines


def _tasks_of(column: str, by: By, tasks: Sequence[str]) -> Sequence[str]:
    """Return the tasks whose figures a column averages."""
    if by == "tasks":
        return [column]
    return tasks if by == "classes" else [task for task in tasks if task.endswith(f"-{column}")]


def _theirs(
    by: By,
    columns: Sequence[str],
    rows: Sequence[PublishedRow],
    family: str,
    known: Published,
    whole: bool,
) -> list[Line]:
    lines, filled = [], {row.label for row in rows if row.by == by}
    for row in rows:
        values: dict[str, tuple[float, ...]] = {}
        average = row.average
        if row.by == by:
            printed = dict(zip(known.columns[by], row.values, strict=True))
            values = {column: (printed[column],) for column in columns if column in printed}
        elif not whole or row.label in filled:
            continue  # the average of other tasks than ours, or of figures that another row has
        if not whole:
            if not values:
                continue
            average = mean(value for (value,) in values.values())
        stored = () if row.dsp is None or not whole else (row.dsp,)
        label = f"{row.label} [{row.source}]"
        own = row.variant == family
        lines.append(Line(label, values, (average,), stored, True, own, row.note))
    return lines
