"""The report of a comparison, for programs and for `show`."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from runtime.benchmark.compare.agreement import problem, summed
from runtime.benchmark.compare.candidates import Candidate, NotCompared, labels
from runtime.benchmark.compare.choice import choose
from runtime.benchmark.compare.comparison import Comparison
from runtime.benchmark.compare.measured import ComparePlan, Measured
from runtime.benchmark.latency import machine, summary


def report(
    comparison: Comparison,
    *,
    noise: bool,
    interrupted: bool,
    left_out: Sequence[NotCompared],
    **conditions: Any,
) -> dict[str, Any]:
    """Return what was measured so far, JSON-serialisable.

    Args:
        comparison: A comparison, finished or interrupted.
        noise: Whether it compared answers to noise, instead of images.
        interrupted: Whether it was interrupted.
        left_out: What else is not compared.
        conditions: Other members of the document.
    """
    names = labels([each.candidate for each in comparison.measured])
    reference = comparison.reference
    expected = None if reference is None else summed(reference.answers.values())
    rows = []
    for each in comparison.measured:
        if each.opened and not each.failure:
            row = _row(each, comparison.plan, names[each.candidate])
            row["reference"] = each is reference
            row["chosen_by"] = each.candidate.options
            if names[each.candidate] != each.candidate.name:
                row["chosen_by"] = f"{each.candidate.bundle} with {each.candidate.options}"
            row["problem"] = None
            if row["answers"] and expected:
                precision = each.candidate.precision
                row["problem"] = problem(row["answers"], expected, precision, noise)
            rows.append(row)
    chosen = choose(rows, interrupted)
    return {
        **conditions,
        **asdict(comparison.plan),
        "rounds": comparison.plan.rounds,
        "interrupted": interrupted,
        "compared_on": "noise" if noise else "images",
        "rows": rows,
        "left_out": [*_failures(comparison.measured, names), *left_out],
        "choice": None if chosen.row is None else rows.index(chosen.row),
        "sentences": list(chosen.sentences),
        "machine": machine(),
    }


def _row(each: Measured, plan: ComparePlan, name: str) -> dict[str, Any]:
    """Return the row of a candidate; what was not measured is None."""
    own, opened = each.candidate, each.opened
    singles, batches = (each.seconds(kind) for kind in ("predict", "batch"))
    whole = [seconds / plan.batch for seconds in batches] or singles
    switches = each.seconds("switch")
    return {
        **own.as_dict(),
        "name": name,
        "version": opened["version"],
        "open_ms": opened["open_ms"],
        "task_bytes": opened["task_bytes"],
        "predict_ms": summary(singles) if singles else None,
        "round_ms": [
            round(statistics.median(turn["predict"]) * 1e3, 4) if turn else None
            for turn in map(each.turns.get, range(plan.rounds))
        ],
        "images_per_second": round(1 / statistics.median(whole), 2) if whole else None,
        "switch_ms": summary(switches) if switches else None,
        **each.memory,
        "answers": summed(each.answers.values()),
        "answers_by_task": {task: asdict(counts) for task, counts in each.answers.items()},
    }


def _failures(measured: Sequence[Measured], names: dict[Candidate, str]) -> list[NotCompared]:
    """Return the candidates that failed, with one entry for all that share a reason."""
    bundles = {each.candidate.bundle for each in measured}
    reasons: dict[str, list[Candidate]] = {}
    for each in measured:
        if each.failure:
            reasons.setdefault(each.failure, []).append(each.candidate)
    found = []
    for reason, failed in reasons.items():
        of = {own.name: {each.bundle for each in failed if each.name == own.name} for own in failed}
        # Where it holds for all bundles, these need not be named.
        what = dict.fromkeys(own.name if of[own.name] == bundles else names[own] for own in failed)
        found.append({"what": ", ".join(what), "reason": reason})
    return found
