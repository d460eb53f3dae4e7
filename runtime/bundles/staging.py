"""Write files into a bundle's folder; the manifest is replaced last."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator
from pathlib import Path

from runtime.bundles import manifest
from runtime.bundles.entries import FileRef
from runtime.bundles.manifest import Manifest
from runtime.errors import FormatError, StorageError
from runtime.storage import disk
from runtime.storage.files import sha256, storage_errors, sync
from runtime.storage.locks import exclusive
from runtime.storage.writing import write_bytes

_log = logging.getLogger(__name__)

LOCK = ".lock"
_OURS = re.compile(r".+-[0-9a-f]{16}\.(onnx|safetensors|json)|\..+\.(tmp|lock)")
_FOLDERS = ("base", "graphs", "tasks", "optional")
_CHUNK = 1 << 20


@contextlib.contextmanager
def staging(path: Path) -> Iterator[Staging]:
    """Hold a bundle's lock and yield a writer; on an error, remove the added files.

    Readers need no lock: files that they have opened stay whole.

    Args:
        path: Folder of the bundle, which may be missing or empty.

    Raises:
        StorageError: The folder cannot be written or locked, holds foreign files and is not a
            bundle, or has a link for one of a bundle's folders.
    """
    _check(path)
    created = not disk.exists(path)
    try:
        with exclusive(path / LOCK, keep=False):
            _check(path)  # another writer may have been here while this one waited
            stage = Staging(path)
            try:
                yield stage
            except BaseException:
                stage.discard()
                raise
    except BaseException:
        if created:
            with contextlib.suppress(OSError):  # not empty: another writer was waiting for it
                path.rmdir()
        raise


class Staging:
    """Files that are being added to a folder, which may hold a bundle already."""

    def __init__(self, path: Path) -> None:
        """Start with no files; use `staging` to create one."""
        self._path = path
        self._written: list[Path] = []

    def add(
        self, folder: str, stem: str, suffix: str, content: bytes, digest: str | None = None
    ) -> FileRef:
        """Write a file named after its content, unless it is there, and return its path.

        Args:
            folder: Name of the folder: `base`, `graphs`, `tasks` or `optional`.
            stem: Start of the name.
            suffix: End of the name, with the dot.
            content: Content of the file.
            digest: Digest to name it by, if not the SHA-256 of the bytes.

        Raises:
            StorageError: The file cannot be written.
        """
        own = digest or sha256(content)
        ref = FileRef(f"{folder}/{stem}-{own[:16]}{suffix}", len(content), own)
        target = self._path / ref.path
        with storage_errors(target):
            if _holds(target, content):
                # Its writer may have been killed before it was on the disk.
                sync(target)
                sync(target.parent)
                return ref
        if not disk.exists(target):
            self._written.append(target)
        write_bytes(target, content)
        return ref

    def publish(self, content: Manifest) -> None:
        """Replace the manifest; from now on this is the bundle.

        Raises:
            StorageError: The manifest cannot be written.
        """
        write_bytes(self._path / manifest.NAME, manifest.encode(content))

    def clear(self, content: Manifest) -> None:
        """Remove files of the previous bundle that the new one does not use.

        The new bundle is valid either way, so a file that cannot be removed is not an error: the
        next writer tries again.

        Args:
            content: Manifest of the new bundle; it uses the files of former tasks as well.
        """
        used = {self._path / ref.path for ref in content.files()}
        try:
            for file in self._leftovers():
                if file not in used and disk.is_file(file):
                    _remove(file)
        except (OSError, StorageError) as error:
            _log.warning("unused files may remain in %s: %s", self._path, error)

    def discard(self) -> None:
        """Remove the added files that can be removed."""
        # The error that led here is the one to report.
        with contextlib.suppress(OSError, StorageError):
            kept = self._named()
            for file in self._written:
                if file not in kept:
                    file.unlink(missing_ok=True)
            for folder in (self._path / name for name in _FOLDERS):
                if disk.is_folder(folder) and not any(folder.iterdir()):
                    folder.rmdir()

    def _leftovers(self) -> list[Path]:
        """Return the files whose names look like a writer's."""
        inside = [
            file
            for folder in (self._path / name for name in _FOLDERS)
            if disk.is_folder(folder)
            for file in folder.iterdir()
            if _OURS.fullmatch(file.name)
        ]
        names = f".{manifest.NAME}.*"
        return [*inside, *self._path.glob(f"{names}.tmp"), *self._path.glob(f"{names}.lock")]

    def _named(self) -> set[Path]:
        """Return the files that the manifest on disk names; none if it cannot be read."""
        try:
            return {self._path / ref.path for ref in manifest.read(self._path).files()}
        except FormatError:
            return set()


def _remove(file: Path) -> None:
    try:
        file.unlink()
    except OSError as error:
        _log.warning("an unused file remains for now: %s", error)


def _check(path: Path) -> None:
    for folder in (path / name for name in _FOLDERS):
        if disk.is_link(folder):
            raise StorageError(
                f"'{folder}' is a link, expected a folder; copy the bundle again, or choose "
                "another folder"
            )
    if not disk.is_file(path / manifest.NAME):
        files = (file for file in path.rglob("*") if not disk.is_folder(file))
        foreign = next((f for f in files if f.name != LOCK and not _OURS.fullmatch(f.name)), None)
        if foreign:
            raise StorageError(
                f"'{path}' holds other files ('{foreign.name}') and is not a bundle; choose "
                "another folder, or empty it"
            )


def _holds(path: Path, content: bytes) -> bool:
    """Return whether a file has exactly this content."""
    if not disk.is_file(path) or disk.is_link(path) or path.stat().st_size != len(content):
        return False
    view = memoryview(content)
    with path.open("rb") as file:
        return all(
            file.read(_CHUNK) == view[start : start + _CHUNK]
            for start in range(0, len(content), _CHUNK)
        )
