"""Options that the commands of `uda-adapt` share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from adapt.data import DomainPair

F = TypeVar("F", bound=Callable[..., Any])


def task_options(command: F) -> F:
    """Add what says which images a command is about."""
    for option in reversed(
        [
            click.option("--dataset", metavar="NAME", help="demo-digits or demo-objects."),
            click.option("--task", metavar="SRC-TGT", help="Task of that data set, like f-h."),
            click.option(
                "--data",
                type=click.Path(exists=True, file_okay=False, path_type=Path),
                help="Your own images instead: a folder ROOT/<domain>/<class>/*.jpg.",
            ),
            click.option("--source", metavar="DOMAIN", help="Labelled domain folder of --data."),
            click.option("--target", metavar="DOMAIN", help="Unlabelled domain folder of --data."),
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
    """Return a function of holdout, seed and target classes that loads what the options name."""
    named, own = (dataset, task), (data, source, target)
    if not (all(named) and not any(own)) and not (all(own) and not any(named)):
        raise click.UsageError(
            "say which images: --dataset NAME --task SRC-TGT, or --data ROOT --source DOMAIN "
            "--target DOMAIN"
        )

    def load(holdout: float, seed: int, target_classes: int | None = None) -> DomainPair:
        from adapt import data as images

        if data and source and target:
            return images.load_folders(data, source, target, holdout=holdout, seed=seed)
        return images.load(str(dataset), str(task), holdout=holdout, seed=seed)

    return load


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
