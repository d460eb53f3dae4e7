"""Options that the commands of `uda-adapt` share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from adapt.datasets import DATASETS
from adapt.methods import METHODS

if TYPE_CHECKING:
    from adapt.data import DomainPair

F = TypeVar("F", bound=Callable[..., Any])

data_option = click.option(
    "--data",
    metavar="ROOT",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of the data set, or of your own images: ROOT/<domain>/<class>/*.jpg.",
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
            click.option(
                "--device",
                default="cpu",
                show_default=True,
                help="cpu, cuda or cuda:N; no fallback.",
            ),
            click.option(
                "--threads",
                type=click.IntRange(min=1),
                help="CPU threads; torch's choice if absent.",
            ),
        ]
    ):
        command = option(command)
    return command


def pair_loader(
    dataset: str | None,
    task: str | None,
    data: Path | None,
    source: str | None,
    target: str | None,
) -> Callable[..., DomainPair]:
    """Return a function of holdout, seed and target classes that loads what the options name.

    Raises:
        click.UsageError: The options name no images, or too many.
    """
    problem = _problem(dataset, task, data, source, target)
    if problem:
        raise click.UsageError(
            f"{problem}; say which images: --dataset NAME --task SRC-TGT (with --data ROOT, unless "
            "it is a demo), or your own with --data ROOT --source DOMAIN --target DOMAIN"
        )

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

    return load


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
                "--method", type=click.Choice(sorted(METHODS)), default="cmkd", show_default=True
            ),
            click.option("--rst/--no-rst", default=None, help="Keep the encoder's changes sparse."),
            click.option(
                "--density",
                metavar="SHARE",
                help="RST with a budget instead of a threshold: change at most this share, like "
                "0.1%.",
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
    import torch

    if threads is not None:
        torch.set_num_threads(threads)


def sparsity(rst: bool | None, density: str | None) -> list[str]:
    """Return the settings that `--rst` and `--density` stand for; a density implies RST."""
    if density is None:
        return [] if rst is None else [f"rst={str(rst).lower()}"]
    try:
        value = float(density.removesuffix("%")) / (100 if density.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 < value <= 1 or rst is False:
        raise click.UsageError(
            f"--density {density}: say a share of the encoder's weights, like 0.1% or 0.001, and "
            "not --no-rst"
        )
    return ["rst=true", f"rst_density={value!r}"]
