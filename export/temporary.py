"""Temporary folders beside the final path, so that a rename can move the result there."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.storage.files import storage_errors


@contextmanager
def sibling_folder(out: Path) -> Iterator[Path]:
    """Yield an empty folder beside `out`, and remove it with its contents afterwards.

    Raises:
        StorageError: The folder cannot be created.
    """
    with storage_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
