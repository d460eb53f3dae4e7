"""Suggest the setting or the new option that an unknown option means."""

from __future__ import annotations

from dataclasses import fields

import click

from adapt.registry import METHODS, imported

RENAMED = {"--out": "--artifacts"}
"""Former options by their new names."""


class SettingsCommand(click.Command):
    """A command that explains `--set` to those who pass a setting as an option, and new names."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse arguments, or refuse an option."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if new := RENAMED.get(error.option_name):
                raise click.UsageError(
                    f"'{error.option_name}' is now called '{new}'; pass {new} instead", ctx
                ) from error
            name = error.option_name.lstrip("-").replace("-", "_")
            configs = [imported(method.config) for method in METHODS.values()]
            if name not in {field.name for config in configs for field in fields(config)}:
                raise
            raise click.UsageError(
                f"'{error.option_name}' is a setting, not an option; pass --set {name}=VALUE", ctx
            ) from error
