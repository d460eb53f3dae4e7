"""Options that the commands of `uda-adapt` share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from adapt import store
from adapt.datasets import DATASETS
from adapt.methods import METHODS
from adapt.nearest import meant
from adapt.settings.names import check_device
from runtime.errors import TaskError

if TYPE_CHECKING:
    from adapt.data import DomainPair

BUDGETS = (
    "on 713 drawings per domain, 1.5% reached 60.4% accuracy in a file of 97 kB, 0.5% reached "
    "59.7% in 42 kB"
)
"""What the budget of RST on own images buys, at both ends; the README says how it was measured."""
F = TypeVar("F", bound=Callable[..., Any])


class _Method(click.Choice):  # type: ignore[type-arg]  # generic since click 8.2
    """A choice that also says what was probably meant."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the method, or refuse the value."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            hint = meant(str(value), METHODS)
            raise click.BadParameter(f"{error.message.rstrip('.')}{hint}", ctx, param) from error


data_option = click.option(
    "--data",
    metavar="ROOT",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of the data set, or of your own images: ROOT/<domain>/<class>/*.jpg.",
)


def _device(context: click.Context, parameter: click.Parameter, name: str) -> str:
    """Return the name of a device, or refuse it before torch is imported."""
    check_device(name)
    return name


device_option = click.option(
    "--device",
    default="cpu",
    show_default=True,
    callback=_device,
    help="cpu, cuda or cuda:N; no fallback.",
)


def task_options(command: F) -> F:
    """Add what says which images a command is about."""
    for option in reversed(
        [
            click.option("--dataset", metavar="NAME", help=f"One of {', '.join(DATASETS)}."),
            click.option(
                "--task", metavar="SRC-TGT", help="Task of that data set by short names, like a-c."
            ),
            data_option,
            click.option(
                "--source",
                metavar="DOMAIN",
                help="Of your own images: the labelled domain, a folder or a list file (.txt).",
            ),
            click.option(
                "--target",
                metavar="DOMAIN",
                help="Of your own images: the unlabelled domain, a folder or a list file.",
            ),
            device_option,
            click.option(
                "--threads",
                type=click.IntRange(min=1),
                help="CPU threads; torch's choice if absent.",
            ),
        ]
    ):
        command = option(command)
    return command


test_option = click.option(
    "--test",
    metavar="FOLDER",
    help="Labelled images to test on, of your own: a folder with one folder per class, or a list "
    "file (.txt); in --data, or anywhere.",
)


def named_of(artifacts: Path, task: str) -> str:
    """Return the data set of a task that has artifacts, for commands that were given no other.

    Raises:
        TaskError: There is none, there are several, or it is of images of the user's own.
    """
    found = store.dataset_of(artifacts, task)
    if found not in DATASETS:
        raise TaskError(
            f"task '{task}' in '{artifacts}' is of images of your own ('{found}'); say where they "
            "are: --data ROOT --source DOMAIN --target DOMAIN, without --task"
        )
    return found


def check_named(dataset: str | None, task: str | None) -> None:
    """Refuse an unknown data set or task, where one is named.

    Raises:
        DataError: There is no such data set.
        TaskError: It has no such task.
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
    """Return a function of holdout, seed and target classes that loads what the options name.

    Raises:
        click.UsageError: The options name no images, or too many.
        DataError: There is no such data set.
        TaskError: It has no such task.
    """
    problem = _problem(dataset, task, data, source, target)
    if problem:
        raise click.UsageError(
            f"{problem}; say which images: --dataset NAME --task SRC-TGT (with --data ROOT, unless "
            "it is a demo), or your own with --data ROOT --source DOMAIN --target DOMAIN"
        )
    check_named(dataset, task)  # before a missing settings file says it worse

    def load(holdout: float, seed: int, target_classes: int | None = None) -> DomainPair:
        from adapt import data as images

        if data and source and target:
            return images.load_folders(
                data, source, target, holdout=holdout, seed=seed, target_classes=target_classes
            )
        return images.load(
            str(dataset), str(task),
            root=data, holdout=holdout, seed=seed, target_classes=target_classes,
        )  # fmt: skip

    if test is None:
        return load

    def load_tested(holdout: float, seed: int, target_classes: int | None = None) -> DomainPair:
        from adapt.data.folder import with_test
        from adapt.data.own_domains import read_test

        images = read_test(data or Path(), test)
        return with_test(
            load(holdout, seed, target_classes), images, test,
            target_classes=target_classes, given=True,
        )  # fmt: skip

    return load_tested


def _problem(
    dataset: str | None, task: str | None, data: Path | None, source: str | None, target: str | None
) -> str | None:
    """Return what is wrong with a choice of images, or None."""
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


def setting_options(command: F) -> F:
    """Add what chooses a method and its settings."""
    for option in reversed(
        [
            click.option(
                "--method", type=_Method(sorted(METHODS)), default="cmkd", show_default=True
            ),
            click.option("--rst/--no-rst", default=None, help="Keep the encoder's changes sparse."),
            click.option(
                "--density",
                metavar="SHARE",
                help="RST with a budget instead of a threshold: change at most this share, like "
                f"0.1%. With --rst on your own images it is 1.5%; {BUDGETS}.",
            ),
            click.option(
                "--grid",
                type=click.Choice(["fp32", "fp16", "bf16"]),
                help="Train on the grid of the precision that will be deployed.",
            ),
            click.option(
                "--select", metavar="NAME", help="Epoch to keep: last, or a score without labels."
            ),
            click.option(
                "--preset",
                "presets",
                metavar="NAME",
                multiple=True,
                help="Values of the settings file that go together, like rn50; repeatable.",
            ),
            click.option(
                "--set",
                "overrides",
                metavar="KEY=VALUE",
                multiple=True,
                help="Change a setting; repeatable.",
            ),
        ]
    ):
        command = option(command)
    return command


def changed(
    overrides: Sequence[str],
    rst: bool | None,
    density: str | None,
    grid: str | None,
    select: str | None,
) -> list[str]:
    """Return the settings that the options change, as `key=value`; named options come last."""
    named = {"grid": grid, "select": select}
    others = [f"{name}={value}" for name, value in named.items() if value is not None]
    return [*overrides, *sparsity(rst, density), *others]


def use_threads(threads: int | None) -> None:
    """Let torch compute with so many CPU threads."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def sparsity(rst: bool | None, density: str | None) -> list[str]:
    """Return the settings that `--rst` and `--density` stand for; a density implies RST."""
    if density is None:
        return [] if rst is None else [f"rst={str(rst).lower()}"]
    if rst is False:
        raise click.UsageError("--density is a budget of RST, so it goes without --no-rst")
    try:
        value = float(density.removesuffix("%")) / (100 if density.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1:
        raise click.UsageError(
            "--density must be a share of the encoder's weights above 0 % and up to 100 %, found "
            f"{density}; pass one like 0.1% or 0.001"
        )
    return ["rst=true", f"rst_density={value!r}"]
