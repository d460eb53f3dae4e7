"""Options shared by several commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from runtime.console import UserPath

F = TypeVar("F", bound=Callable[..., Any])


def source_options(command: F) -> F:
    """Add the options for artifacts, images and base weights."""
    for option in reversed(
        [
            click.option(
                "--artifacts",
                type=UserPath(file_okay=False),
                default="artifacts",
                show_default=True,
                help="Folder that `uda-adapt train` wrote.",
            ),
            click.option(
                "--images",
                multiple=True,
                metavar="[TASK=]PATH",
                help="Verify on the images in PATH, a folder or a list file (.txt), instead of the "
                "test images of training; repeatable. `a-c=PATH` is for task a-c alone, a PATH "
                "without a task for all others.",
            ),
            click.option(
                "--data",
                metavar="ROOT",
                type=UserPath(exists=True, file_okay=False),
                help="Folder of the images of training if they have moved since, and of the files "
                "in a list; the demo draws its own.",
            ),
            click.option(
                "--max-images",
                type=click.IntRange(min=1),
                default=2000,
                show_default=True,
                help="Largest number of images per task; more are thinned out evenly.",
            ),
            click.option(
                "--pretrained",
                metavar="FILE",
                help="The base's weights, if they are not where training found them.",
            ),
        ]
    ):
        command = option(command)
    return command


def task_options(command: F) -> F:
    """Add the options for tasks and precision."""
    for option in reversed(
        [
            click.option(
                "--task",
                "tasks",
                multiple=True,
                required=True,
                metavar="SRC-TGT[=NAME]",
                help="Task; repeatable. `a-c=unimos` takes that variant of it; tasks of different "
                "methods on one base share a bundle.",
            ),
            click.option(
                "--dataset",
                metavar="NAME",
                help="Data set, where several have a task of that name.",
            ),
            click.option(
                "--method",
                metavar="NAME",
                help="Variant of the tasks that name none, like cmkd-rst.",
            ),
            click.option(
                "--precision",
                type=click.Choice(["fp32", "fp16", "bf16"]),
                default="fp32",
                show_default=True,
                help="fp16 and bf16 can round a residual away, see the column `survives`, unless "
                "--grid of `uda-adapt train` was the same. bf16 weights are stored as float32, "
                "and multiplied so unless the backend can multiply bf16.",
            ),
            click.option(
                "--schema",
                type=click.Choice(["2", "3"]),
                default="3",
                show_default=True,
                help="Format of the bundle; 2 for devices with an older uda-edge.",
            ),
        ]
    ):
        command = option(command)
    return command
