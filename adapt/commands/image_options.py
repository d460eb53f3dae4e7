"""Options that name a task's images, and the function that loads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from adapt.commands.options import F, device_option, threads_option
from adapt.registry import DATASETS
from runtime.console import UserPath

if TYPE_CHECKING:
    from adapt.data import DomainPair

data_option = click.option(
    "--data",
    metavar="ROOT",
    type=UserPath(exists=True, file_okay=False),
    help="Folder of the data set, or of your own images: ROOT/<domain>/<class>/*.jpg.",
)


def task_options(command: F) -> F:
    """Add the options that name the images of a task."""
    for option in reversed(
        [
            click.option("--dataset", metavar="NAME", help=f"One of {', '.join(DATASETS)}."),
            click.option(
                "--task", metavar="SRC-TGT", help="Task of the data set by short names, like a-c."
            ),
            data_option,
            click.option(
                "--source",
                metavar="DOMAIN",
                help="Labelled domain of your own images: a folder or a list file (.txt).",
            ),
            click.option(
                "--target",
                metavar="DOMAIN",
                help="Unlabelled domain of your own images: a folder or a list file.",
            ),
            device_option,
            threads_option,
        ]
    ):
        command = option(command)
    return command


test_option = click.option(
    "--test",
    metavar="FOLDER",
    help="Your own labelled images to test on: a folder with one folder per class, or a list file "
    "(.txt), in --data or elsewhere.",
)


def check_named(dataset: str | None, task: str | None) -> None:
    """Refuse an unknown data set or task.

    Raises:
        DataError: The data set is unknown.
        TaskError: The data set has no such task.
    """
    if dataset is not None:
        from adapt.data import check_task

        check_task(dataset, task)


def pair_loader(
    dataset: str | None,
    task: str | None,
    data: Path | None,
    source: str | None,
    target: str | None,
    test: str | None = None,
) -> Callable[..., DomainPair]:
    """Return a function of holdout, seed and target classes that loads the images of the options.

    Raises:
        click.UsageError: The options name no images, or too many.
        DataError: The data set is unknown.
        TaskError: The data set has no such task.
    """
    problem = _problem(dataset, task, data, source, target)
    if problem:
        raise click.UsageError(
            f"{problem}; pass --dataset NAME --task SRC-TGT (with --data ROOT, unless "
            "it is a demo), or your own with --data ROOT --source DOMAIN --target DOMAIN"
        )
    check_named(dataset, task)  # a missing settings file would be a worse message

    def load(holdout: float, seed: int, target_classes: int | None = None) -> DomainPair:
        from adapt import data as images
        from adapt.data.folder import load_own, with_given

        if data and source and target:
            return load_own(
                data, source, target, test,
                holdout=holdout, seed=seed, target_classes=target_classes,
            )  # fmt: skip
        pair = images.load(
            str(dataset), str(task),
            root=data, holdout=holdout, seed=seed, target_classes=target_classes,
        )  # fmt: skip
        return with_given(pair, data or Path(), test, target_classes) if test else pair

    return load


def _problem(
    dataset: str | None, task: str | None, data: Path | None, source: str | None, target: str | None
) -> str | None:
    """Return why the options do not name images, or None."""
    if (dataset or task) and (source or target):
        return "--source and --target name your own folders, --dataset and --task a known data set"
    if dataset and not task:
        return f"--dataset {dataset} needs a --task"
    if task and not dataset:
        return f"--task {task} needs the --dataset it belongs to"
    if source or target:
        if not (source and target):
            return f"--{'source' if source else 'target'} needs the other domain too"
        return None if data else "--source and --target need the --data folder they lie in"
    if dataset:
        return None
    return "--data needs a --dataset and --task, or --source and --target" if data else "no images"
