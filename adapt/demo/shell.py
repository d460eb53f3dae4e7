"""Run the commands that a user would type, in one folder."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click

from runtime.errors import UdaError


class Shell:
    """Runs commands in one folder and times them."""

    def __init__(self, folder: Path) -> None:
        """Start in an existing folder."""
        self.folder = folder

    def __call__(self, command: str, *, may_fail: bool = False) -> bool:
        """Run a command of this installation, and return whether it succeeded.

        Args:
            command: Name of the program and its arguments, as in a shell.
            may_fail: Whether it may end with 1, as where a result is refused.

        Raises:
            UdaError: The command failed.
        """
        name, *arguments = shlex.split(command)
        program = Path(sys.executable).parent / name
        click.secho(f"\n$ {command}", bold=True)
        started = time.monotonic()
        done = subprocess.run([program, *arguments], cwd=self.folder, check=False)
        if done.returncode and not (may_fail and done.returncode == 1):
            raise UdaError(f"'{command}' failed with exit code {done.returncode}; see above")
        click.secho(f"({time.monotonic() - started:.0f} s)", dim=True)
        return not done.returncode

    def json(self, name: str) -> Any:
        """Return the content of a JSON file in the folder."""
        return json.loads((self.folder / name).read_text())
