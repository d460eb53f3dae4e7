"""Print and write the table of a sweep over the user's own images, baselines first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from adapt.artifacts.store import is_baseline
from adapt.data.base import UNKNOWN
from adapt.evaluation.stored import ZERO_SHOT
from adapt.settings.selectors import INFOMAX
from adapt.sweep.files import write_tables
from adapt.sweep.own import OwnSweep
from adapt.sweep.results import Result, read
from adapt.sweep.run import Outcome
from adapt.sweep.table import Line, Table, our_lines

ACCURACY = "accuracy"
_DIGITS = {ACCURACY: 1, INFOMAX: 3}
_BOTH = "mean: of the tasks; ±: standard deviation over the seeds; M param.: stored, in millions"
_REMARKS = {
    ACCURACY: (
        "last: the final epoch; chosen: the one that a score without labels chose; oracle-best: "
        "the one that the target's labels would choose, which nobody without labels can know",
        "accuracies were measured with the target's labels, which no run was trained on; choosing "
        "a method by them uses these labels",
    ),
    INFOMAX: (
        "infomax: a score without labels, higher is better; the targets of its table have none",
    ),
}


@dataclass(frozen=True)
class OwnSweepReport:
    """The results of the finished runs of a sweep over own images."""

    sweep: OwnSweep
    results: Mapping[str, Sequence[Result]]
    """Results by variant, in the order of the tables."""
    metrics: Mapping[str, str]
    """By task, `accuracy`, or `infomax` where the target has no labels."""
    tables: Sequence[Table]
    """One of the tasks with labels, one of the others."""

    @classmethod
    def of(cls, sweep: OwnSweep) -> OwnSweepReport:
        """Read the artifacts of the runs."""
        metrics = {
            task: ACCURACY if (pair.test.labels != UNKNOWN).any() else INFOMAX
            for task, pair in sweep.pairs.items()
        }
        results: dict[str, list[Result]] = {job.variant: [] for job in sweep.jobs}
        for job in sweep.jobs:
            if found := read(job, metrics[job.task]):
                results[job.variant].append(found)
        tables = []
        for metric, unit in ((ACCURACY, "%"), (INFOMAX, INFOMAX)):
            if tasks := tuple(task for task in metrics if metrics[task] == metric):
                lines = [
                    line
                    for variant, found in results.items()
                    for line in _lines(variant, tasks, found, metric)
                ]
                if lines:  # else every run of these tasks failed
                    tables.append(Table("tasks", tasks, tuple(lines), unit, _DIGITS[metric]))
        return cls(sweep, results, metrics, tables)

    @property
    def empty(self) -> bool:
        """Whether no run has finished."""
        return not any(self.results.values())

    @property
    def title(self) -> str:
        """Title: data set, base models and seeds."""
        jobs = self.sweep.jobs
        models = ", ".join(dict.fromkeys(job.config.model for job in jobs))
        seeds = ", ".join(map(str, dict.fromkeys(job.config.seed for job in jobs)))
        return f"{jobs[0].dataset}, {models}, seeds {seeds}"

    @property
    def remarks(self) -> Sequence[str]:
        """Explanations of the table."""
        held_out = [task for task, pair in self.sweep.pairs.items() if pair.held_out]
        adapted = [task for task in self.sweep.pairs if task not in held_out]
        tested = [f"tested on held-out images: {', '.join(held_out)}"] if held_out else []
        if adapted:
            tested.append(f"tested on the target images adapted to: {', '.join(adapted)}")
        kinds = dict.fromkeys(self.metrics.values())
        own = [remark for kind in kinds for remark in _REMARKS[kind]]
        return (_BOTH, *own, *tested, *self.sweep.notes)

    def text(self) -> str:
        """Return the tables for the screen, with their explanations and the verdicts."""
        tables = [table.text(every=True) for table in self.tables]
        notes = ["\n".join(self.remarks), "\n".join(self.verdicts())]
        return "\n\n".join(filter(None, [self.title, *tables, *notes]))

    def verdicts(self) -> list[str]:
        """Return a line for each variant but the baselines: the tasks on which it beats these."""
        found = []
        for variant in self.results:
            if is_baseline(variant):
                continue
            better, worse = [], []
            for task in self.sweep.pairs:
                own, others = self._figure(variant, task), self._baselines(task)
                if own is None or not others:
                    continue
                best = max(others, key=lambda name: others[name])
                if own > others[best]:
                    better.append(task)
                else:
                    digits = _DIGITS[self.metrics[task]]
                    figures = f"{own:.{digits}f} against {others[best]:.{digits}f}"
                    worse.append(f"{task} ({figures} of {best})")
            parts = [f"better than its baselines on {', '.join(better)}"] if better else []
            parts += [f"NOT better on {', '.join(worse)}"] if worse else []
            found += [f"{variant}: {'; '.join(parts)}"] if parts else []
        return found

    def _baselines(self, task: str) -> dict[str, float]:
        found = {name: self._figure(name, task) for name in self.results if is_baseline(name)}
        return {name: figure for name, figure in found.items() if figure is not None}

    def _figure(self, variant: str, task: str) -> float | None:
        """Return the mean over the seeds of the epoch that was saved; None if there is none."""
        values = [
            value
            for result in self.results[variant]
            if result.task == task
            and (value := result.figure(result.saved, self.metrics[task], "tasks", task))
            is not None
        ]
        return mean(values) if values else None

    def write(self, outcomes: Iterable[Outcome]) -> None:
        """Write `table.md` and `table.json` into the sweep's folder.

        Raises:
            StorageError: A file cannot be written.
        """
        notes = (*self.remarks, *self.verdicts())
        write_tables(self.sweep.folder, self.title, self.tables, notes, self._document(), outcomes)

    def _document(self) -> dict[str, Any]:
        first, folder = self.sweep.jobs[0], self.sweep.folder
        runs = [
            {"variant": variant, **vars(result), "path": str(result.path.relative_to(folder))}
            for variant, found in self.results.items()
            for result in found
        ]
        settings = {
            f"{job.task}/{job.variant}": {**job.settings.values(), "seed": None}
            for job in self.sweep.jobs
        }
        return {
            "dataset": first.dataset,
            "root": str(first.root),
            "metrics": dict(self.metrics),
            "settings": settings,
            "runs": runs,
            "notes": list(self.sweep.notes),
            "verdicts": self.verdicts(),
        }


def _lines(
    variant: str, tasks: Sequence[str], results: Sequence[Result], metric: str
) -> list[Line]:
    """Return the lines of a variant; one alone of zero-shot CLIP, which has no epochs."""
    lines = our_lines("tasks", tasks, tasks, variant, results, metric)
    if variant.partition("-")[0] != ZERO_SHOT:
        return lines
    return [Line(variant, line.values, line.averages, line.stored) for line in lines[:1]]
