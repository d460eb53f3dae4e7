"""Check that outputs overwrite no input, no bundle, no redirected stdout and not each other."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from runtime.console import STDOUT
from runtime.errors import ConfigError
from runtime.storage import disk


def check_targets(targets: Mapping[str, Path], inputs: Iterable[str], bundle: Path) -> None:
    """Check where outputs are to be written.

    Args:
        targets: Paths by name of the option.
        inputs: Paths of files that are read.
        bundle: Folder of the bundle.

    Raises:
        ConfigError: A path is an input, lies in the bundle, or is that of another output or of the
            standard output.
        StorageError: Access to a path is denied.
    """
    names: dict[Path, str] = {}
    for name, path in targets.items():
        real = disk.real(path)
        if real in names:
            raise ConfigError(f"--{names[real]} and --{name} both name '{path}'; choose two paths")
        if real.is_relative_to(disk.real(bundle)):
            raise ConfigError(f"'{path}' lies in the bundle; write the --{name} elsewhere")
        names[real] = name
    found = {name: disk.status(path) for name, path in targets.items() if path != STDOUT}
    existing = {(s.st_dev, s.st_ino): name for name, s in found.items() if s is not None}
    if not existing:
        return  # what does not exist is not an input
    with contextlib.suppress(OSError):  # closed
        output = os.fstat(1)
        if name := existing.get((output.st_dev, output.st_ino), ""):
            raise ConfigError(
                f"the standard output goes to '{targets[name]}' already; choose another --{name}, "
                "or - to have nothing else there"
            )
    for given in inputs:
        try:
            status = os.stat(given)
        except (OSError, ValueError):
            continue
        taken = existing.get((status.st_dev, status.st_ino))
        if taken is not None:
            raise ConfigError(f"'{targets[taken]}' is an input; write the --{taken} elsewhere")
