"""Remember which large files this user has verified, so that a second start need not wait.

A stamp says that a file had a digest when the file system described it in a certain way. Whatever
is written to the file changes that description, its change time above all, which no program can
set. Stamps lie in a private folder: nobody else can make a file pass for verified.

While a process uses a file, a marker with the boot's id lies beside the stamp. One of an earlier
boot means a power cut or a crash, and an empty one of a process that is gone, that it was killed
before it had verified the file: then no stamp is trusted.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from runtime.errors import FormatError, StorageError
from runtime.storage import disk, json_text
from runtime.storage.caches import cache_folder
from runtime.storage.files import sha256, sync
from runtime.storage.trusted import check_folder, read_code
from runtime.storage.writing import write_bytes

_MOST = 1 << 12
"""Bytes of a stamp, at most."""
_SETTLED_NS = 2_000_000_000
"""Age of a change from which a later one has another time, on every file system."""
_CHECKED = b"checked"
"""Content of the marker of a process that verified the file."""
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class _Description:
    """How a file system describes a verified file."""

    sha256: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    owner: int

    @classmethod
    def of(cls, sha: str, found: os.stat_result) -> _Description:
        times = found.st_mtime_ns, found.st_ctime_ns
        return cls(sha, found.st_size, *times, found.st_ino, found.st_uid)


class Stamp:
    """The stamp of one file; without a private folder or an id of the boot, no stamp holds."""

    def __init__(self, path: Path, sha: str) -> None:
        """Look at nothing yet.

        Args:
            path: Path of the file.
            sha: Digest that the file must have.
        """
        self._sha = sha
        self._name = sha256(os.fsencode(disk.real(path)))[:32]
        self._boot = _boot_id()
        self._markers: list[Path] = []
        try:
            self._folder: Path | None = cache_folder("UDA_RUNTIME_CACHE") / "verified"
        except StorageError:  # no home
            self._folder = None

    def holds(self, found: os.stat_result) -> bool:
        """Return whether the file was verified before, and has not been touched since.

        Args:
            found: Status of the open file.
        """
        if self._folder is None or self._boot is None:
            return False
        described = asdict(_Description.of(self._sha, found))
        try:
            content = json_text.parse(read_code(self._path(self._folder), _MOST, lambda: ""))
            if content != described or not os.access(self._folder, os.W_OK):
                return False  # a stamp that cannot be removed would hide damage for ever
            if self._crashed(self._folder):
                self.remove()  # its marker is gone: the next start has to verify it too
                return False
            return True
        except (OSError, ValueError, FormatError, StorageError):
            return False

    def write(self, found: os.stat_result) -> None:
        """Remember that the file was verified; does nothing where that is impossible.

        Args:
            found: Status of the open file, the same before it was read and after.
        """
        if self._folder is None or time.time_ns() - found.st_ctime_ns < _SETTLED_NS:
            return
        text = json.dumps(asdict(_Description.of(self._sha, found)))
        with contextlib.suppress(OSError, FormatError, StorageError):
            check_folder(self._folder)
            write_bytes(self._path(self._folder), text.encode(), code=True)

    def remove(self) -> None:
        """Forget the file."""
        if self._folder is not None:
            with contextlib.suppress(OSError):
                self._path(self._folder).unlink()

    def mark(self, *, checked: bool) -> None:
        """Leave a marker until `unmark`, so that a later start can tell that this one crashed.

        Args:
            checked: Whether this process has verified the file, so that only a crash of the machine
                counts; else its own does too.
        """
        if self._folder is None or self._boot is None:
            return
        name = f"{self._name}.{self._boot}.{os.getpid()}.{secrets.token_hex(4)}"
        marker = self._folder / name
        with contextlib.suppress(OSError):
            handle = os.open(marker, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            self._markers.append(marker)
            with os.fdopen(handle, "wb") as file:
                file.write(_CHECKED if checked else b"")
            sync(marker)
            for former in self._markers[:-1]:
                former.unlink()
            del self._markers[:-1]
            sync(self._folder)

    def unmark(self) -> None:
        """Remove the markers. Safe to call more than once."""
        for marker in self._markers:
            with contextlib.suppress(OSError):
                marker.unlink()
        self._markers.clear()

    def _path(self, folder: Path) -> Path:
        return folder / f"{self._name}.json"

    def _crashed(self, folder: Path) -> bool:
        """Return whether a process ended before it had verified the file, or the machine did.

        Removes the markers of processes that ended.
        """
        crashed = False
        for marker in disk.matching(folder, f"{self._name}.*.*.*"):
            _, boot, process, _ = marker.name.split(".")
            earlier = boot != self._boot
            if earlier or not disk.exists(f"/proc/{process}"):
                crashed |= earlier or not marker.stat().st_size
                with contextlib.suppress(OSError):
                    marker.unlink()
        return crashed


def _boot_id() -> str | None:
    try:
        return _BOOT.read_text().strip()
    except OSError:  # not Linux
        return None
