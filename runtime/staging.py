"""The folder of a bundle while it is written: files appear first, the manifest makes them count."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from runtime import manifest
from runtime.errors import FormatError, StorageError
from runtime.files import sha256, storage_errors, write_bytes
from runtime.manifest import FileRef, Manifest

_OURS = re.compile(r".+-[0-9a-f]{16}\.(onnx|safetensors)|\..+\.tmp")
_FOLDERS = ("base", "graphs", "tasks")


class Staging:
    """Files that are being added to a folder, which may hold a bundle already."""

    def __init__(self, path: Path) -> None:
        """Look at the folder; nothing is written.

        Raises:
            StorageError: It holds files of others and is no bundle.
        """
        self._path, self._created = path, not path.exists()
        self._written: list[Path] = []
        foreign = None if (path / manifest.NAME).is_file() else _foreign(path)
        if foreign:
            raise StorageError(
                f"'{path}' has files of others in it ('{foreign.name}') and is no bundle; choose "
                "another place, or empty it"
            )

    def add(
        self, folder: str, stem: str, suffix: str, content: bytes, digest: str | None = None
    ) -> FileRef:
        """Write a file named after its content and return its place.

        Args:
            folder: `base`, `graphs` or `tasks`.
            stem: Start of the name.
            suffix: End of the name, with the dot.
            content: The bytes.
            digest: To call it by, if not by the SHA-256 of the bytes.

        Raises:
            StorageError: The file cannot be written.
        """
        own = digest or sha256(content)
        ref = FileRef(f"{folder}/{stem}-{own[:16]}{suffix}", len(content), own)
        target = self._path / ref.path
        if not target.exists():
            self._written.append(target)
        write_bytes(target, content)
        return ref

    def publish(self, content: Manifest) -> None:
        """Put the manifest in place; from now on this is the bundle.

        Raises:
            StorageError: The manifest cannot be written.
        """
        write_bytes(self._path / manifest.NAME, manifest.encode(content))

    def clear(self, content: Manifest) -> None:
        """Remove files of the bundle that stood here before and that the new one does not use.

        Raises:
            StorageError: A file cannot be removed.
        """
        used = {self._path / ref.path for ref in content.files()}
        with storage_errors(self._path):
            for folder in _FOLDERS:
                for file in (self._path / folder).iterdir():
                    ours = _OURS.fullmatch(file.name) is not None
                    if ours and file not in used and file.is_file():
                        file.unlink()

    def discard(self) -> None:
        """Remove what was added, as far as that is possible."""
        with contextlib.suppress(OSError):  # the error that brought us here is the one to tell
            kept = self._named()
            for file in self._written:
                if file not in kept:
                    file.unlink(missing_ok=True)
            if self._created:
                for folder in (*(self._path / name for name in _FOLDERS), self._path):
                    if folder.is_dir() and not any(folder.iterdir()):
                        folder.rmdir()

    def _named(self) -> set[Path]:
        """Return the files that the manifest on the disk names; none if there is no sound one."""
        try:
            return {self._path / ref.path for ref in manifest.read(self._path).files()}
        except FormatError:
            return set()


def _foreign(path: Path) -> Path | None:
    """Return a file below `path` that no killed writer of a bundle can have left there."""
    files = (file for file in path.rglob("*") if not file.is_dir())
    return next((file for file in files if not _OURS.fullmatch(file.name)), None)
