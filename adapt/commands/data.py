"""`uda-adapt data`: what there is of a data set."""

from __future__ import annotations

from pathlib import Path

import click

from adapt.commands.image_options import data_option
from adapt.datasets import DATASETS
from runtime.console import count_of, printable, write_json


@click.group(short_help="Look at data sets before training.")
def data() -> None:
    """Look at data sets before training on them."""


@data.command(short_help="Take stock of a data set's images.")
@click.option("--dataset", metavar="NAME", help=f"One of {', '.join(DATASETS)}.")
@data_option
@click.option("--task", metavar="SRC-TGT", help="Check only the two domains of this task.")
@click.option("--source", metavar="DOMAIN", help="Check only this folder or list of your own.")
@click.option("--target", metavar="DOMAIN", help="And this one.")
@click.option(
    "--decode",
    is_flag=True,
    help="Of a named data set, also read every image; takes long. Your own are always read.",
)
@click.option(
    "--report",
    "page",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.html",
    help="Of your own images: write the inventory with contact sheets.",
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write it all here.",
)
def check(
    dataset: str | None,
    data: Path | None,
    task: str | None,
    source: str | None,
    target: str | None,
    decode: bool,
    page: Path | None,
    json_file: Path | None,
) -> None:
    """Take stock of your own images, or compare a data set with what was published.

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
    from adapt.data.inspection.details import Details
    from adapt.data.inventory.summary import counted, left_out_line
    from adapt.data.inventory.walk import LeftOut
    from adapt.data.own_check import own
    from runtime.errors import DataError

    details: tuple[Details, ...] = ()
    beside: tuple[LeftOut, ...] = ()
    lost: dict[str, list[Path]] = {}
    if dataset:
        report = checks.named(dataset, data, task)
    else:
        found = own(data or Path(), source, target)
        report, details, beside = found.report, found.details, found.beside
        lost = {one.name: one.unreadable for one in details}
    click.echo(
        f"{report.dataset}: {count_of(len(report.rows), 'domain')}, "
        f"{count_of(report.class_count, 'class')}\n"
    )
    click.echo(report.table())
    if dataset and decode:
        from adapt.data.decode import decoded

        report, lost = decoded(report, data, dataset)
    for one in details:
        click.echo("\n" + "\n".join(map(printable, one.lines())))
    if beside:
        click.echo(f"\nbeside the domains: {left_out_line(beside)}")
    if report.notes:
        click.echo("\n" + "\n".join(map(printable, report.notes)))
    if page:
        from adapt.data.inspection.page import write_page

        write_page(page, report.dataset, details, report.notes, report.unusable)
        click.echo(f"\nreport     {page}")
    if json_file:
        paths = {domain: [str(path) for path in bad] for domain, bad in lost.items()}
        inventory = {one.name: one.as_dict() for one in details}
        more = {"unreadable": paths, "inventory": inventory, "beside": counted(beside)}
        write_json(json_file, report.as_dict() | more)
    elif not page and any(len(bad) > 1 for bad in lost.values()):
        page_too = "" if dataset else "--report FILE.html or "
        click.echo(f"all that cannot be read: add {page_too}--json FILE")
    if report.unusable:
        raise DataError(report.unusable)
