"""Print and write the table of a sweep, its sources, and every run's figures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from adapt import data, published
from adapt.sweep.files import write_tables
from adapt.sweep.jobs import Sweep
from adapt.sweep.results import Result, read
from adapt.sweep.run import Outcome
from adapt.sweep.table import Table, tables

REMARKS = (
    "mean: of the columns; ±: standard deviation over the seeds",
    "last: the final epoch; chosen: the one that a score without labels chose; oracle-best: the "
    "one that the target's labels would choose, which is what papers print, mostly for one run",
    "M param.: stored for all tasks, in millions",
)
HELD_OUT = (
    "these runs were tested on images held out of training; published figures are transductive, "
    "tested on the target images that were trained on"
)


@dataclass(frozen=True)
class Report:
    """The results of the finished runs of a sweep."""

    sweep: Sweep
    results: Sequence[Result]
    tables: Sequence[Table]
    """Tables of the sweep; the first is for the screen."""
    sources: Sequence[str]

    @classmethod
    def of(cls, sweep: Sweep) -> Report:
        """Read the artifacts of the runs."""
        jobs, name = sweep.jobs, sweep.jobs[0].dataset
        known = published.load(name)
        metric = known.metric if known else "accuracy"
        results = [found for job in jobs if (found := read(job, metric))]
        made = tables(jobs, results, data.tasks(name), known) if results else []
        labels = [line.label for table in made for line in table.lines]
        sources = [
            f"[{key}] {text}"
            for key, text in (known.sources if known else {}).items()
            if any(label.endswith(f"[{key}]") for label in labels)
        ]
        return cls(sweep, results, made, sources)

    @property
    def empty(self) -> bool:
        """Whether no run has finished."""
        return not self.results

    @property
    def title(self) -> str:
        """Title: data set, model and seeds."""
        seeds = sorted({result.seed for result in self.results})
        of = ", ".join(map(str, seeds))
        return f"{self.sweep.jobs[0].dataset}, {self.sweep.jobs[0].config.model}, seeds {of}"

    def verdicts(self) -> Sequence[str]:
        """Return a line for each method where it is better than others; none beside papers'."""
        return ()

    @property
    def remarks(self) -> Sequence[str]:
        """Explanations that apply to every line."""
        held_out = any(job.config.holdout for job in self.sweep.jobs)
        alone = () if any(line.published for t in self.tables for line in t.lines) else self._alone
        return (*REMARKS, *((HELD_OUT,) if held_out else ()), *alone)

    @property
    def _alone(self) -> Sequence[str]:
        """Explanation of why no published row stands below ours."""
        job, known = self.sweep.jobs[0], published.load(self.sweep.jobs[0].dataset)
        if known is None:
            return (f"no published figures of {job.dataset} in this project",)
        backbones = ", ".join(dict.fromkeys(row.backbone for row in known.rows))
        return (
            f"no published row: papers have {job.dataset} with {backbones}, these runs are of "
            f"{job.config.model} on {len({job.task for job in self.sweep.jobs})} tasks",
        )

    def text(self) -> str:
        """Return the table for the screen, with its explanations."""
        notes = "\n".join((*self.remarks, *self.sources, *self.tables[0].notes()))
        return f"{self.title}\n\n{self.tables[0].text()}\n\n{notes}"

    def write(self, outcomes: Iterable[Outcome]) -> None:
        """Write `table.md` and `table.json` into the sweep's folder.

        Raises:
            StorageError: A file cannot be written.
        """
        notes = [*self.remarks, *self.sources]
        notes += dict.fromkeys(note for table in self.tables for note in table.notes())
        write_tables(self.sweep.folder, self.title, self.tables, notes, self._document(), outcomes)

    def _document(self) -> dict[str, Any]:
        job, folder = self.sweep.jobs[0], self.sweep.folder
        runs = [{**vars(r), "path": str(r.path.relative_to(folder))} for r in self.results]
        return {
            "dataset": job.dataset,
            "method": job.method,
            "variant": job.path.parent.name,
            "settings": {j.task: {**j.settings.values(), "seed": None} for j in self.sweep.jobs},
            "runs": runs,
        }
