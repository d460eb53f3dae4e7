"""List the images below a folder, and every other file with the reason why it is left out.

No file is opened, so this is cheap enough for every start. A link is followed unless it leads to
a file that is taken already, or to a folder that holds the link.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from runtime.errors import DataError
from runtime.frames import formats
from runtime.frames.decode import MAX_PIXELS
from runtime.inventory.left_out import LeftOut
from runtime.inventory.names import file_reason, folder_reason, kind
from runtime.storage import disk

LOOP = "links to a folder above"
AGAIN = "links to what is taken already"
CLASSES = "links to a folder of classes"
BROKEN = "broken links"
SPECIAL = "pipes and devices"
UNREADABLE = "no permission to read"
TOO_LARGE = "too large"
MAX_BYTES = 8 * MAX_PIXELS
"""Largest image file: as many pixels as are read, of four channels of 16 bits."""
Identity = tuple[int, int]
"""Device and inode: equal for one folder under two names."""


@dataclass(frozen=True)
class Tree:
    """The images and other files below a folder."""

    images: dict[str, list[Path]]
    """Images to take, sorted, by the first folder below the root; `""` for those beside it."""
    folders: tuple[str, ...]
    """Names of all first folders, sorted, also of those without images."""
    left_out: tuple[LeftOut, ...]
    """Files left out, sorted by path."""


def walk(root: Path, *, recursive: bool = True, also: Collection[str] = ()) -> Tree:
    """List the files below a folder.

    Args:
        root: Folder to list.
        recursive: Whether to list the files of its folders, rather than their names alone.
        also: Endings, in lower case, of files to take besides images, of any size.

    Raises:
        DataError: The folder cannot be listed.
    """
    work = _Walk(root, recursive, also)
    try:
        work.folder(str(root), "")
    except OSError as error:
        raise DataError(
            f"cannot list '{root}': {error.strerror}; check the path and its permissions"
        ) from error
    work.follow()
    return Tree(
        {name: sorted(map(Path, found)) for name, found in work.images.items()},
        tuple(sorted(work.folders)),
        tuple(sorted(work.left_out, key=lambda left: left.path)),
    )


def reason_of(path: str, also: Collection[str] = ()) -> str | None:
    """Return why a file is left out, or None if it is taken.

    Args:
        path: Path of the file.
        also: Endings of files to take besides images, see `walk`.
    """
    name = os.path.basename(path)
    ending = os.path.splitext(name)[1].lower()
    reason, most = file_reason(name), None if ending in also else MAX_BYTES
    if reason is None and ending not in also and ending not in formats.readable():
        reason = SPECIAL if screened(path) == SPECIAL else kind(name)
    return reason or screened(path, most)


def screened(path: str, most: int | None = MAX_BYTES) -> str | None:
    """Return why a file that is called like an image is left out, or None if it is taken.

    Args:
        path: Path of the file.
        most: Largest number of bytes; None for no bound.
    """
    try:
        status = os.stat(path)
    except OSError:
        return BROKEN if os.path.islink(path) else UNREADABLE
    if not S_ISREG(status.st_mode):
        return SPECIAL
    if most is not None and status.st_size > most:
        return TOO_LARGE
    readable = os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids)
    return None if readable else UNREADABLE


class _Walk:
    """One walk; links are followed last, when everything else is known."""

    def __init__(self, root: Path, recursive: bool, also: Collection[str]) -> None:
        self.root, self.recursive, self.also = str(root), recursive, also
        self.images: dict[str, list[str]] = {}
        self.folders: set[str] = set()
        self.left_out: list[LeftOut] = []
        self._seen: set[Identity] = set()
        self._links: deque[tuple[str, str]] = deque()
        real = Path(os.path.realpath(root))
        self._above = {_identity(path) for path in (real, *real.parents)}

    def folder(self, path: str, group: str) -> None:
        """Take the files in a folder, without following links.

        Raises:
            OSError: The folder cannot be listed.
        """
        waiting, first = deque([(path, group)]), path
        while waiting:
            path, group = waiting.popleft()
            try:
                entries = sorted(os.scandir(path), key=lambda entry: entry.name)
            except OSError as error:
                if path == first or disk.too_many_open(error):
                    raise
                self._leave(path, UNREADABLE)
                continue
            self._seen.add(_identity(path))
            for entry in entries:
                is_folder = entry.is_dir(follow_symlinks=False)
                if is_folder or entry.is_symlink():
                    self._inner(entry, group, is_folder, waiting)
                else:
                    self._file(entry.path, group)

    def follow(self) -> None:
        """Take the targets of links, unless they are taken already."""
        linked: list[tuple[str, str]] = []
        while self._links:
            path, group = self._links.popleft()
            try:
                status = os.stat(path)
            except OSError:
                self._leave(path, BROKEN)
                continue
            if S_ISDIR(status.st_mode):
                self._linked_folder(path, group, (status.st_dev, status.st_ino))
            else:
                linked.append((path, group))
        listed = (path for found in self.images.values() for path in found)
        taken = {_identity_or_none(path) for path in listed} if linked else set()
        for path, group in linked:
            identity = _identity_or_none(path)
            if identity is not None and identity in taken:
                self._leave(path, AGAIN)
            else:
                taken.add(identity)
                self._file(path, group)

    def _inner(
        self, entry: os.DirEntry[str], group: str, is_folder: bool, waiting: deque[tuple[str, str]]
    ) -> None:
        """Take a folder or a link of a folder, or put it off."""
        reason = folder_reason(entry.name, inside_class=bool(group))
        if reason is not None:
            self._leave(entry.path, reason, _count(entry.path) if is_folder else 1)
            return
        leads_to_folder = is_folder or _is_folder(entry)
        if leads_to_folder and not group:
            self.folders.add(entry.name)
        if leads_to_folder and not self.recursive:
            return
        found = entry.path, group or (entry.name if leads_to_folder else "")
        if not is_folder:
            self._links.append(found)
        elif _identity(entry.path) not in self._seen:
            waiting.append(found)

    def _linked_folder(self, path: str, group: str, identity: Identity) -> None:
        here = Path(os.path.realpath(os.path.dirname(path)))
        holders = {_identity(folder) for folder in (here, *here.parents)}
        if identity in self._above or identity in holders:
            self._leave(path, LOOP)
        elif identity in self._seen:
            self._leave(path, AGAIN)
        elif self._holds_classes(path):
            self._leave(path, CLASSES)
        else:
            try:
                self.folder(path, group)
            except OSError:
                self._leave(path, UNREADABLE)

    def _holds_classes(self, path: str) -> bool:
        """Return whether a folder that a class links to has folders named like our classes."""
        if os.path.dirname(path) == self.root:
            return False
        with contextlib.suppress(OSError), os.scandir(path) as entries:
            return len({entry.name for entry in entries} & self.folders) > 1
        return False

    def _file(self, path: str, group: str) -> None:
        reason = reason_of(path, self.also)
        if reason is None:
            self.images.setdefault(group, []).append(path)
        else:
            self._leave(path, reason)

    def _leave(self, path: str, reason: str, files: int = 1) -> None:
        if files:
            self.left_out.append(LeftOut(Path(path), reason, files))


def _identity(path: str | Path) -> Identity:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _identity_or_none(path: str) -> Identity | None:
    """Return a file's identity, or None if it has vanished since it was listed."""
    try:
        return _identity(path)
    except OSError:
        return None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _count(folder: str) -> int:
    return sum(1 for _ in _files(folder))


def _files(folder: str) -> Iterator[str]:
    for _, _, names in os.walk(folder):
        yield from names
