"""The tables of `benchmarks.monitoring`: their names, their targets and their means."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from runtime.console import table as text_table


class Figure(NamedTuple):
    """One measurement of one run."""

    table: str
    """Name of its table."""
    rule: str
    """Rule, score or method: the row."""
    case: str
    """Domain, pair of domains or task: the column."""
    value: float


@dataclass(frozen=True)
class Table:
    """One table, and what the rule that the packages use should reach."""

    name: str
    rule: str = ""
    """The rule of the packages."""
    mean: float | None = None
    """Target of its mean over the cases."""
    worst: float | None = None
    """Target of its worst case."""
    lower: bool = False
    """Whether lower is better."""
    digits: int = 1


OURS = "k-means in the whitened space"
ROUTED = ("a bundle of the tasks", "all domains")
SHOWN = "novelty, or blank"
WATCHED, MANY = "all without base passes", "distances to 200 tasks"
STORED = "in half precision"
HARVESTED = "accuracy after training on 200 harvested frames, %"
TABLES = (
    *(
        Table(f"routing, {bundle}, {frames}, %", OURS, mean, worst)
        for bundle in ROUTED
        for frames, mean, worst in (
            ("single frame", 95.0, 84.0),
            ("15 frames", None, 99.5),
            ("15 frames of one class", None, 99.5),
        )
    ),
    *(Table(f"router, {bundle}, frames of the right task, %") for bundle in ROUTED),
    Table("foreign content, AUROC", "novelty", None, 0.995, digits=3),
    Table("flat, covered and broken frames, AUROC", SHOWN, None, 0.95, digits=3),
    Table("taken for unknown at reject=0.01, %"),
    Table("other domain, same classes, AUROC", "novelty", 0.93, 0.68, digits=3),
    Table("unknown classes, tasks of 80 % and more, AUROC", "affinity", None, 0.90, digits=3),
    Table("unknown classes, tasks below 80 %, AUROC", digits=3),
    Table("right or wrong, AUROC", digits=3),
    Table("accuracy, %"),
    Table("ECE, points", "50 sorted images", 6.0, 9.0, lower=True),
    Table("AURC, points", lower=True),
    Table("false alarms in 100,000 frames", lower=True),
    Table("false alarms in 100,000 frames with runs", "both", None, 20.0, lower=True),
    Table("frames until a sudden change is found, easy pairs", "both", None, 10.0, lower=True),
    Table("frames until a sudden change is found, hard pairs", "both", None, 100.0, lower=True),
    Table("frames until a sudden change is found, own folders", lower=True),
    Table("frames until a gradual change is found", lower=True),
    Table("sudden changes that are not found, %", lower=True),
    Table(HARVESTED),
    Table("cost at D = 512, microseconds a frame", MANY, None, 200.0, lower=True),
    Table("cost at D = 512, % of a ViT-B/16 frame", WATCHED, None, 1.0, lower=True, digits=3),
    Table("cost at D = 768, microseconds a frame", lower=True),
    Table("cost at D = 768, % of a ViT-B/16 frame", lower=True, digits=3),
    Table("size of a bundle's whitening, MB", STORED, None, 0.6, lower=True, digits=3),
    Table("size of a task's members, MB", STORED, None, 0.3, lower=True, digits=3),
)  # fmt: skip


def summary(runs: Sequence[dict[str, Any]], targets: bool = True) -> list[dict[str, Any]]:
    """Return, for each table and rule, the mean over seeds of each case, and over the cases.

    Args:
        runs: Runs of one base model, each with `figures`.
        targets: Whether to say if the targets are reached, which are for the demo world.
    """
    values: dict[tuple[str, str, str], list[float]] = {}
    for run in runs:
        for figure in (Figure(*each) for each in run["figures"]):
            values.setdefault(figure[:3], []).append(figure.value)
    found = []
    for table in TABLES:
        for rule in dict.fromkeys(rule for name, rule, _ in values if name == table.name):
            own = {c: v for (t, r, c), v in values.items() if (t, r) == (table.name, rule)}
            cases = {case: statistics.mean(each) for case, each in own.items()}
            choose = max if table.lower else min
            single = choose(value for each in own.values() for value in each)
            row = {"table": table.name, "rule": rule, "cases": cases, "worst_run": single}
            row |= {"mean": statistics.mean(cases.values()), "worst": choose(cases.values())}
            found.append(row | (_targets(table, row) if targets else {}))
    return found


def _targets(table: Table, row: dict[str, Any]) -> dict[str, Any]:
    """Return whether a row reaches the targets of its table; nothing where there are none."""
    wanted = {"mean": table.mean, "worst": table.worst}
    if row["rule"] != table.rule or table.mean is table.worst is None:
        return {}
    sign = -1 if table.lower else 1
    met = all(goal is None or sign * row[name] >= sign * goal for name, goal in wanted.items())
    return {"targets": {name: goal for name, goal in wanted.items() if goal is not None},
            "met": met}  # fmt: skip


def text(rows: Iterable[dict[str, Any]]) -> str:
    """Return a summary as tables of text."""
    rows, parts = list(rows), []
    for table in TABLES:
        own = [row for row in rows if row["table"] == table.name]
        if not own:
            continue
        cases = list(dict.fromkeys(case for row in own for case in row["cases"]))
        cells = []
        for row in own:
            numbers = [row["mean"], row["worst"], *(row["cases"].get(case) for case in cases)]
            shown = ["" if n is None else f"{n:.{table.digits}f}" for n in numbers]
            cells.append([row["rule"], *shown])
        parts.append(f"{table.name}\n{text_table(('', 'mean', 'worst', *cases), cells)}")
        parts[-1] += "".join(f"\n{_verdict(row)}" for row in own if "met" in row)
    return "\n\n".join(parts)


def _verdict(row: dict[str, Any]) -> str:
    goals = ", ".join(f"{name} {goal:g}" for name, goal in row["targets"].items())
    return f"target of '{row['rule']}', {goals}: {'met' if row['met'] else 'NOT MET'}"
