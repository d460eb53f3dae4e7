"""Suggest the setting or the new option that an unknown option means."""

from __future__ import annotations

from dataclasses import fields

import click

from adapt.registry import METHODS
from runtime.lookup import imported

RENAMED = {
    "--out": "'--out' is now called '--artifacts'; pass --artifacts instead",
    "--artifacts": "a sweep writes tables beside its artifacts; pass --out instead",
}
"""What to pass instead of options that a command no longer has, or that others have."""


class SettingsCommand(click.Command):
    """A command that explains `--set` to those who pass a setting as an option, and new names."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse arguments, or refuse an option."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if instead := RENAMED.get(error.option_name):
                raise click.UsageError(instead, ctx) from error
            name = error.option_name.lstrip("-").replace("-", "_")
            configs = [imported(method.config) for method in METHODS.values()]
            if name not in {field.name for config in configs for field in fields(config)}:
                raise
            raise click.UsageError(
                f"'{error.option_name}' is a setting, not an option; pass --set {name}=VALUE", ctx
            ) from error
