"""Notice that the drive below a path was unmounted, so that nothing is written where it was."""

from __future__ import annotations

import os
from pathlib import Path

from runtime.errors import StorageError
from runtime.storage import disk


class Mount:
    """The file system that a path lies on, by the folder where it is mounted."""

    def __init__(self, path: Path) -> None:
        """Find the folder: the path itself, or the nearest one above that is a mount point."""
        real = disk.real(path)
        self._path = path
        self._folder = next((each for each in (real, *real.parents) if os.path.ismount(each)), None)

    def check(self) -> None:
        """Check that it is still mounted.

        Raises:
            StorageError: It is not; writing would fill the drive below.
        """
        if self._folder is not None and not os.path.ismount(self._folder):
            raise StorageError(
                f"cannot write '{self._path}': '{self._folder}' is not mounted any more; mount it "
                "again"
            )
