"""`uda-adapt data`: look at data sets before training on them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from adapt.commands.image_options import data_option
from adapt.commands.pages import PagePath, no_images_option
from adapt.registry import DATASETS
from runtime.console import UserPath, count_of, echo, write_json
from runtime.errors import DataError
from runtime.text import printable

if TYPE_CHECKING:
    from adapt.data.own_check import OwnReport

Unreadable = dict[str, list[Path]]
"""Images that cannot be read, by domain."""


@click.group(short_help="Look at data sets before training.")
def data() -> None:
    """Look at data sets before training on them."""


@data.command(short_help="Count and check a data set's images.")
@click.option("--dataset", metavar="NAME", help=f"One of {', '.join(DATASETS)}.")
@data_option
@click.option("--task", metavar="SRC-TGT", help="Check only the two domains of this task.")
@click.option("--source", metavar="DOMAIN", help="Check only this folder or list of your own.")
@click.option("--target", metavar="DOMAIN", help="Check only this folder or list of your own too.")
@click.option(
    "--decode",
    is_flag=True,
    help="Also read every image of a named data set, which takes long. Your own are always read.",
)
@click.option(
    "--report",
    "page",
    type=PagePath(),
    metavar="FILE.html",
    help="Write an inventory of your own images, with samples of every class.",
)
@no_images_option
@click.option(
    "--json",
    "json_file",
    type=UserPath(dir_okay=False),
    help="Write the counts, notes and files as JSON.",
)
def check(
    dataset: str | None,
    data: Path | None,
    task: str | None,
    source: str | None,
    target: str | None,
    decode: bool,
    page: Path | None,
    no_images: bool,
    json_file: Path | None,
) -> None:
    """Check your own images, or compare a data set with what was published.

    Without --dataset, every folder of --data is taken for a domain of your own, and every file
    below it is counted as taken or as left out, with the reason; --report and --json name them.
    What training would refuse is an error, exit status 1; everything else that looks wrong is
    printed.
    """
    if dataset is None and (data is None or task):
        raise click.UsageError("say what to check: --dataset NAME --data ROOT, or --data ROOT")
    if dataset and (source or target):
        raise click.UsageError("--source and --target name your own folders; leave out --dataset")
    if dataset and page:
        raise click.UsageError("--report shows your own folders; leave out --dataset")
    from adapt.data import check as checks
    from adapt.data.own_check import OwnReport, own

    if dataset:
        found = OwnReport(checks.named(dataset, data, task), ())
    else:
        found = own(data or Path(), source, target)
    echo(
        f"{found.report.dataset}: {count_of(len(found.report.rows), 'domain')}, "
        f"{count_of(found.report.class_count, 'class')}\n"
    )
    echo(found.report.table())
    lost = {one.name: one.unreadable for one in found.details}
    if dataset and decode:
        from adapt.data.decode import decoded

        report, lost = decoded(found.report, data, dataset)
        found = replace(found, report=report)
    _print(found)
    if page:
        _write_page(page, found, not no_images)
    if json_file:
        _write_json(json_file, found, lost)
    elif not page and any(len(bad) > 1 for bad in lost.values()):
        page_too = "" if dataset else "--report FILE.html or "
        echo(f"to list all that cannot be read, add {page_too}--json FILE")
    if found.report.unusable:
        raise DataError(found.report.unusable)


def _print(found: OwnReport) -> None:
    """Print the content of each domain, and warnings."""
    from runtime.inventory.left_out import left_out_line

    for one in found.details:
        echo("\n" + "\n".join(map(printable, one.lines())))
    if found.beside:
        echo(f"\nbeside the domains: {left_out_line(found.beside)}")
    if found.report.notes:
        echo("\n" + "\n".join(map(printable, found.report.notes)))


def _write_page(page: Path, found: OwnReport, images: bool) -> None:
    from adapt.report.inventory import write_inventory

    report = found.report
    write_inventory(
        page, report.dataset, found.details, report.notes, report.unusable, images=images
    )
    echo(f"\nreport     {page}")


def _write_json(path: Path, found: OwnReport, lost: Unreadable) -> None:
    from runtime.inventory.left_out import counted

    more = {
        "unreadable": {domain: [str(path) for path in bad] for domain, bad in lost.items()},
        "inventory": {one.name: one.as_dict() for one in found.details},
        "beside": counted(found.beside),
    }
    write_json(path, found.report.as_dict() | more)
