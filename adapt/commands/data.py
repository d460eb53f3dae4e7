"""`uda-adapt data`: what there is of a data set."""

from __future__ import annotations

from pathlib import Path

import click

from adapt.datasets import DATASETS
from adapt.options import data_option
from runtime.console import table, write_json


@click.group()
def data() -> None:
    """Look at data sets before training on them."""


@data.command()
@click.option("--dataset", metavar="NAME", help=f"One of {', '.join(DATASETS)}.")
@data_option
@click.option("--task", metavar="SRC-TGT", help="Check only the two domains of this task.")
@click.option("--source", metavar="DOMAIN", help="Check only this folder or list of your own.")
@click.option("--target", metavar="DOMAIN", help="And this one.")
@click.option("--decode", is_flag=True, help="Also read every image; takes long.")
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
    json_file: Path | None,
) -> None:
    """Compare a data set with what was published: domains, classes, images.

    Without --dataset, every folder of --data is taken for a domain of your own. Other counts than
    the published ones are told; a domain that cannot be used is an error.
    """
    if dataset is None and (data is None or task):
        raise click.UsageError("say what to check: --dataset NAME --data ROOT, or --data ROOT")
    if dataset and (source or target):
        raise click.UsageError("--source and --target name your own folders; leave out --dataset")
    from adapt.data import check as checks
    from runtime.errors import DataError

    if dataset:
        report = checks.named(dataset, data, task)
    else:
        names = tuple(name for name in (source, target) if name)
        report = checks.own(data or Path(), names)
    click.echo(f"{report.dataset}: {len(report.rows)} domains, {report.class_count} classes\n")
    click.echo(table(checks.HEADER, [row.cells() for row in report.rows]))
    lost: dict[str, list[Path]] = {}
    if decode:
        from adapt.data.decode import decoded

        report, lost = decoded(report, data, dataset)
    if report.notes:
        click.echo("\n" + "\n".join(report.notes))
    if json_file:
        paths = {domain: [str(path) for path in bad] for domain, bad in lost.items()}
        write_json(json_file, report.as_dict() | {"unreadable": paths})
    elif any(len(bad) > 1 for bad in lost.values()):
        click.echo("all that cannot be read: add --json FILE")
    if report.unusable:
        raise DataError(report.unusable)
