"""`uda-adapt eval`: compare the trained variants of a task on the same images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from adapt.artifacts import store
from adapt.commands.image_options import task_options, test_option
from adapt.commands.options import artifacts_option, pretrained_option, use_threads
from adapt.commands.pages import no_images_option, page_option, write_page
from adapt.commands.stored_images import stored_images
from runtime.console import UserPath, count_of, echo, table, write_json
from runtime.text import printable

if TYPE_CHECKING:
    from adapt.data import DomainPair
    from adapt.evaluation.compare import Line


@click.command("eval", short_help="Compare the trained variants of a task.")
@task_options
@test_option
@artifacts_option()
@pretrained_option
@click.option("--method", metavar="VARIANT", help="Also show a table of this variant's classes.")
@page_option(
    "beside the task's artifacts",
    "; for the confusion matrices in a folder, pass --confusion DIR",
)
@no_images_option
@click.option(
    "--confusion",
    type=UserPath(file_okay=False),
    metavar="DIR",
    help="Write every variant's confusion matrix to DIR/<variant>/confusion.json and .png.",
)
@click.option(
    "--json",
    "json_file",
    type=UserPath(dir_okay=False),
    help="Write the table as JSON.",
)
def evaluate(
    dataset: str | None,
    task: str | None,
    data: Path | None,
    source: str | None,
    target: str | None,
    test: str | None,
    device: str,
    threads: int | None,
    artifacts: Path,
    pretrained: str | None,
    method: str | None,
    page: Path | None,
    no_images: bool,
    confusion: Path | None,
    json_file: Path | None,
) -> None:
    """Compare zero-shot CLIP with every trained variant of a task.

    Without options that name images, those are taken that the artifacts remember; --data says where
    they have moved to. --task may be left out if the artifacts are of one task.

    Each figure is "overall / mean per class", in percent. "accuracy" is measured now, with the
    weights of the artifact: those of the epoch that was chosen without labels, or of the last one.
    "last" is the final epoch. "oracle-best" is the epoch that the test labels would have chosen,
    of those within a --density; papers print it, and you cannot know it without labels.

    "ECE" is how far scores are from the share that is right: of the calibrated confidences, where
    "spot-check score" gave the artifact a temperature. "AURC" is the mean share of errors among the
    surest predictions, however many of them are taken. Lower is better.
    """
    from adapt.settings.architectures import check_weights

    if pretrained:
        check_weights(pretrained, "--pretrained FILE")
    found = stored_images(artifacts, dataset, task, data, source, target, test, method, "--test")
    pair, dataset = found.pair, found.dataset
    if dataset is None and not found.files:  # nothing is fetched to find its base
        store.find(artifacts, pair.task.id, pair.task.dataset)
    # Torch takes seconds to import: all that can be refused without it has been.
    from adapt.compute.device import select
    from adapt.evaluation import compare
    from adapt.training.probe import with_probe

    select(device)
    use_threads(threads)
    settings = {**found.settings, "pretrained": pretrained or found.settings["pretrained"]}
    with with_probe(pair, found.files, settings, device, dataset) as files:
        lines = compare.compare(pair, files, found.zero_shot, device, pretrained)
    if found.which:
        echo(f"images     {found.which}")
    _print(pair, lines, method, found.left_out)
    if confusion:
        _write_confusion(confusion, pair, lines)
    if json_file:
        document = {"dataset": pair.task.dataset, "task": pair.task.id, "held_out": pair.held_out}
        write_json(json_file, document | {"variants": [line.as_dict() for line in lines]})
        echo(f"\njson       {printable(json_file)}")
    if page:
        folder = artifacts / pair.task.dataset / pair.task.id
        echo()
        write_page(page, folder, pair, found.files, lines, not no_images)


def _print(
    pair: DomainPair, lines: Sequence[Line], method: str | None, left_out: Sequence[str]
) -> None:
    """Print a table of the variants, and one of the classes of the variant `method`."""
    from adapt.evaluation import compare, confusion, trust
    from runtime.monitoring.confidence import UNCALIBRATED

    tested = (
        f"accuracy on {_tested(pair, lines[0].images)}, in % (overall / mean per class)"
        if lines[0].images
        else "no accuracy: the target has no labels"
    )
    echo(f"{pair.task.dataset} {pair.task.id}: {tested}\n")
    echo(table(compare.HEADER, compare.rows(lines)))
    trusts = {line.variant: line.trust for line in lines if line.trust is not None}
    calibrated = [f"{name} ({one.calibration})" for name, one in trusts.items() if one.calibrated]
    if calibrated:
        echo(f"\ncalibrated {', '.join(map(printable, calibrated))}")
    elif trusts:
        echo(f"\nscores     {UNCALIBRATED}")
    if left_out:
        echo(f"\nleft out, of another set of target classes: {', '.join(map(printable, left_out))}")
    for line in lines:
        if line.variant == method:
            cells, note = confusion.rows(line.confusion.lines())
            echo(f"\n{method}{note and ', ' + note}:\n\n{table(confusion.HEADER, cells)}")
            if line.trust is not None:
                echo(f"\n{method}, if only the surest predictions count:\n")
                echo(table(trust.HEADER, trust.rows(line.trust)))


def _write_confusion(folder: Path, pair: DomainPair, lines: Sequence[Line]) -> None:
    """Write every variant's confusion matrix, if the target has labels."""
    if not lines[0].images:
        echo(
            "\nconfusion  none: a confusion matrix needs labels; sort a few images with "
            '"uda-adapt spot-check draw"'
        )
        return
    for line in lines:
        title = (
            f"{pair.task.dataset} {pair.task.id}, {line.variant}: {line.accuracy:.2f} % of "
            f"{line.images} images"
        )
        line.confusion.write(folder / line.variant, title)
    echo(f"\nconfusion  {folder}")


def _tested(pair: DomainPair, count: int) -> str:
    """Return a description of a task's test images, and whether training saw them."""
    if pair.given:
        seen = "" if pair.held_out else ", some of which are among the target's"
        return f"{count_of(count, 'image')} of '{pair.test.domain}'{seen}"
    if pair.held_out:
        return count_of(count, "held-out target image")
    return f"the same {count_of(count, 'target image')} it was adapted to"
