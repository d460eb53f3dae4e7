"""Options that the commands of `uda-adapt` share: device, threads, method and settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from adapt.artifacts import store
from adapt.methods import METHODS
from adapt.settings.names import check_device
from adapt.settings.selectors import SELECTORS
from runtime.console import UserPath
from runtime.suggest import did_you_mean

BUDGETS = (
    "on 713 drawings per domain, 1.5% reached 61.2% accuracy in a file of 97 kB, 0.5% reached "
    "60.2% in 43 kB"
)
"""Accuracy and file size of two budgets of RST on own images; measured as the README says."""
F = TypeVar("F", bound=Callable[..., Any])


class _Method(click.Choice):  # type: ignore[type-arg]  # generic since click 8.2
    """A choice of methods with did-you-mean suggestions."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the method, or refuse the value."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            hint = did_you_mean(str(value), METHODS)
            raise click.BadParameter(f"{error.message.rstrip('.')}{hint}", ctx, param) from error


class _Methods(_Method):
    """Methods with commas between them."""

    name = "methods"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a tuple of methods, or refuse the value."""
        if isinstance(value, tuple):
            return value
        names = [name.strip() for name in str(value).split(",") if name.strip()]
        return tuple(super(_Methods, self).convert(name, param, ctx) for name in names or [""])


def _device(context: click.Context, parameter: click.Parameter, name: str) -> str:
    """Check the name of a device, without torch."""
    check_device(name)
    return name


device_option = click.option(
    "--device",
    default="cpu",
    show_default=True,
    callback=_device,
    help="Device to compute on: cpu, cuda or cuda:N; an unavailable one is an error.",
)


def artifacts_option(text: str = "Folder that `uda-adapt train` wrote.") -> Callable[[F], F]:
    """Return the option that names the root folder of artifacts.

    Args:
        text: Help text.
    """
    return click.option(
        "--artifacts",
        type=UserPath(file_okay=False),
        default=store.ROOT,
        show_default=True,
        help=text,
    )


threads_option = click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="CPU threads; torch chooses by default.",
)
pretrained_option = click.option(
    "--pretrained",
    metavar="FILE",
    help="Weights of the base model, if they are not where training found them.",
)
method_option = click.option(
    "--method",
    type=_Method(sorted(METHODS)),
    default="cmkd",
    show_default=True,
    help="Method of adaptation.",
)
methods_option = click.option(
    "--method",
    "method_names",
    metavar="METHOD[,METHOD]",
    type=_Methods(sorted(METHODS)),
    default="cmkd",
    show_default=True,
    help=f"Methods of adaptation: {', '.join(sorted(METHODS))}.",
)


def setting_options(command: F) -> F:
    """Add the options that change the settings of a method."""
    for option in reversed(
        [
            click.option("--rst/--no-rst", default=None, help="Keep the encoder's changes sparse."),
            click.option(
                "--density",
                metavar="SHARE",
                help="Limit RST's changes to this share of the weights, like 0.1%, instead of by a "
                f"threshold. With --rst on your own images it is 1.5%; {BUDGETS}.",
            ),
            click.option(
                "--grid",
                type=click.Choice(["fp32", "fp16", "bf16"]),
                help="Train on the grid of the precision to deploy.",
            ),
            click.option(
                "--select",
                metavar="NAME",
                help="Epoch to save: last, or the best by a score without labels: "
                f"{', '.join(SELECTORS)}. Default: infomax, unless a settings file says otherwise.",
            ),
            click.option(
                "--preset",
                "presets",
                metavar="NAME",
                multiple=True,
                help="Named group of values in the settings file, like rn50; repeatable.",
            ),
            click.option(
                "--set",
                "overrides",
                metavar="KEY=VALUE",
                multiple=True,
                help="Change a setting; repeatable. `uda-adapt train --show-settings` lists them.",
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
    """Return the settings that the options change, as `key=value`, `--set` first."""
    named = {"grid": grid, "select": select}
    others = [f"{name}={value}" for name, value in named.items() if value is not None]
    return [*overrides, *sparsity(rst, density), *others]


def use_threads(threads: int | None) -> None:
    """Set the number of torch's CPU threads."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def sparsity(rst: bool | None, density: str | None) -> list[str]:
    """Return the settings that `--rst` and `--density` stand for; a density implies RST."""
    if density is None:
        return [] if rst is None else [f"rst={str(rst).lower()}"]
    if rst is False:
        raise click.UsageError("--density is a budget of RST; leave out --no-rst")
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
