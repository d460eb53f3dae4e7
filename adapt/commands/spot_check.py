"""`uda-adapt spot-check`: measure accuracy from a few images that a person sorts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from adapt.commands.image_options import task_options
from adapt.commands.options import (
    artifacts_option,
    device_option,
    pretrained_option,
    threads_option,
    use_threads,
)
from adapt.commands.stored_images import stored_images
from runtime.console import UserPath, count_of, echo, table, write_json
from runtime.errors import StorageError
from runtime.text import printable, shell_command

if TYPE_CHECKING:
    from adapt.evaluation.spot_score import Report
    from runtime.models import TaskInfo


@click.group("spot-check", short_help="Measure accuracy without labels.")
def spot_check() -> None:
    """Measure accuracy without labels: draw images, sort them by hand, score."""


@spot_check.command(short_help="Copy random target images to sort.")
@task_options
@artifacts_option()
@click.option(
    "--method",
    metavar="VARIANT",
    help="Variant whose test images are drawn, if the variants differ in them.",
)
@click.option(
    "--count",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Number of images to sort.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the draw."
)
@click.option(
    "--out",
    type=UserPath(file_okay=False),
    required=True,
    help="New folder for the images.",
)
def draw(
    dataset: str | None,
    task: str | None,
    data: Path | None,
    source: str | None,
    target: str | None,
    device: str,
    threads: int | None,
    artifacts: Path,
    method: str | None,
    count: int,
    seed: int,
    out: Path,
) -> None:
    """Copy random target images into a folder, to be sorted into classes.

    They are drawn from the held-out images, if training held some out.
    """
    del device, threads
    found = stored_images(artifacts, dataset, task, data, source, target, method=method)
    from adapt.evaluation import spot_check as check

    manifest = check.draw(found.pair, count, seed, out)
    held = "held-out target" if manifest.held_out else "target"
    echo(f"drew       {count} of {manifest.population} {held} images at random")
    echo(f"now        move each from '{out / check.UNSORTED}' into its class below")
    echo(f"           '{out / check.SORTED}', or into '{check.NONE}'")
    score_it = shell_command(("uda-adapt", "spot-check", "score", out, "--artifacts", artifacts))
    echo(f"then       {score_it}")


@spot_check.command(short_help="Measure accuracy from your sorting.")
@click.argument("folder", type=UserPath(exists=True, file_okay=False))
@artifacts_option()
@click.option(
    "--method", "methods", metavar="VARIANT", multiple=True, help="Only this variant; repeatable."
)
@pretrained_option
@device_option
@threads_option
@click.option(
    "--json",
    "json_file",
    type=UserPath(dir_okay=False),
    help="Write the results as JSON.",
)
def score(
    folder: Path,
    artifacts: Path,
    methods: tuple[str, ...],
    pretrained: str | None,
    device: str,
    threads: int | None,
    json_file: Path | None,
) -> None:
    """Compare every variant's predictions with your sorting, and calibrate them.

    Of 50 or more sorted images, each artifact keeps the temperature that makes its scores
    probabilities; exported again, it tells a device how sure a prediction is.
    """
    from adapt.compute.device import select
    from adapt.evaluation import spot_check as check
    from adapt.evaluation import spot_score

    select(device)
    use_threads(threads)
    sorting = check.collect(folder)
    report = spot_score.score(sorting, artifacts, methods, device, pretrained)
    task, count = sorting.manifest.task, len(sorting.paths)
    echo(f"{task.dataset} {task.id}: accuracy on {count_of(count, 'image')} that a person sorted\n")
    echo(table(spot_score.HEADER, spot_score.rows(report)))
    if report.pairs:
        echo(f"\n{table(spot_score.PAIRS, spot_score.pair_rows(report))}")
    if sorting.unsorted or sorting.none:
        echo("")
    if sorting.unsorted:
        echo(f"unsorted   {count_of(sorting.unsorted, 'image')}, left out; if they are hard ones,")
        echo("           the true accuracy is lower")
    if sorting.none:
        echo(f"no class   {count_of(sorting.none, 'image')}, left out: no prediction can be right")
    if json_file:
        write_json(json_file, report.as_dict())
    _calibrate(report, artifacts, task, count)


def _calibrate(report: Report, artifacts: Path, task: TaskInfo, count: int) -> None:
    """Store the temperatures, and say what the artifacts have."""
    from adapt.evaluation.calibrate import keep
    from runtime.monitoring.confidence import FEWEST, UNCALIBRATED

    echo("")
    if count < FEWEST:
        echo(f"scores     {UNCALIBRATED}: it takes {FEWEST} sorted images, {count} are")
    stored = False
    for found in report.temperatures:
        try:
            kept = keep(found, artifacts, task)
        except StorageError as error:  # the accuracies were what was asked for
            echo(f"not stored {printable(error)}", err=True)
            continue
        older = "" if kept.images == found.images else ", which it had"
        echo(f"calibrated {found.variant}: temperature {kept.temperature:.2f} of {kept}{older}")
        stored = True
    if stored:
        echo("           export again what a device is to know of it")
