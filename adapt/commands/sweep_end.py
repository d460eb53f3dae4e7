"""Print and write the tables of a sweep, and a page about its runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from adapt.commands.pages import NAME
from adapt.progress import progress_bar
from runtime.console import echo
from runtime.errors import Interrupted, TrainingError, UdaError
from runtime.storage import disk

if TYPE_CHECKING:
    from adapt.sweep.jobs import Sweep
    from adapt.sweep.own_report import OwnSweepReport
    from adapt.sweep.report import Report
    from adapt.sweep.run import Outcome


def end(
    sweeps: Sequence[Sweep],
    outcomes: Sequence[Outcome],
    device: str,
    pages: bool,
    images: bool,
) -> None:
    """Print and write a table for each sweep, and name the runs that failed.

    Args:
        sweeps: One over own images, or one for each method over a data set.
        outcomes: Outcomes of all runs.
        device: Device to evaluate the runs of a page on.
        pages: Whether to write a page for each sweep.
        images: Whether the pages show pictures.

    Raises:
        TrainingError: A run failed.
    """
    for number, swept in enumerate(sweeps):
        report = _report_of(swept)
        if report.empty:
            continue
        own = {job.method for job in swept.jobs}
        report.write([outcome for outcome in outcomes if outcome.job.method in own])
        folder = swept.folder
        gap = "\n" if number else ""
        echo(f"{gap}{report.text()}\n\nwrote '{folder}/table.md' and '{folder}/table.json'")
        if pages:
            _write_page(report, swept, device, images)
    failed = [outcome for outcome in outcomes if outcome.error]
    for outcome in failed:
        echo(f"failed: {outcome.job}: {outcome.error}", err=True)
    if failed:
        raise TrainingError(
            f"{len(failed)} of {len(outcomes)} runs failed, see above; run the same command again "
            "to repeat only those"
        )


def _report_of(sweep: Sweep) -> OwnSweepReport | Report:
    from adapt.sweep.own import OwnSweep
    from adapt.sweep.own_report import OwnSweepReport
    from adapt.sweep.report import Report

    return OwnSweepReport.of(sweep) if isinstance(sweep, OwnSweep) else Report.of(sweep)


def _write_page(report: OwnSweepReport | Report, sweep: Sweep, device: str, images: bool) -> None:
    """Write a page with the tables of a sweep and the runs of its first seed."""
    from adapt.report.finished import write_finished
    from adapt.report.write import Table
    from adapt.sweep.jobs import quiet

    seed, page = sweep.jobs[0].config.seed, sweep.folder / NAME
    files = [job.path for job in sweep.jobs if job.config.seed == seed and disk.exists(job.path)]
    tables = [
        Table(report.title, table.header, table.rows(), table.notes()) for table in report.tables
    ]
    seeds = f"this table covers all seeds, the rest of the page seed {seed}"
    remarks = (*tables[-1].notes, seeds, *report.remarks, *report.verdicts())
    tables[-1] = replace(tables[-1], notes=remarks)
    try:
        with quiet(), progress_bar() as on_progress:  # `check` has warned of the images
            write_finished(
                page, files, title=report.title, tables=tables, images=images, device=device,
                on_progress=on_progress,
            )  # fmt: skip
    except Interrupted:
        raise
    except UdaError as error:  # the tables are written
        echo(f"report     none: {error}")
        return
    echo(f"report     {page}")
