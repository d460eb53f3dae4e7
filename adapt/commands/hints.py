"""Suggest the next command, and the setting that an unknown option means."""

from __future__ import annotations

import shlex
from dataclasses import fields
from pathlib import Path

import click

from adapt.registry import METHODS, imported


class SettingsCommand(click.Command):
    """A command that explains `--set` when a setting is passed as an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse arguments, or refuse an option."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            name = error.option_name.lstrip("-").replace("-", "_")
            configs = [imported(method.config) for method in METHODS.values()]
            if name not in {field.name for config in configs for field in fields(config)}:
                raise
            raise click.UsageError(
                f"'{error.option_name}' is a setting, not an option; pass --set {name}=VALUE", ctx
            ) from error


def export_command(task: str, variant: str, out: Path) -> str:
    """Return the command that exports a trained task.

    Args:
        task: Id of the task.
        variant: Variant of the artifact.
        out: Root folder of the artifacts.
    """
    words = ["uda-export", "onnx", "--task", f"{task}={variant}"]
    words += [] if str(out) == "artifacts" else ["--artifacts", str(out)]
    return shlex.join([*words, "--out", f"{task}.bundle"])
