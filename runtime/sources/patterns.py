"""Take the images and videos that match a pattern that no shell has expanded."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from fnmatch import fnmatchcase
from itertools import groupby
from pathlib import Path

from runtime.errors import DataError
from runtime.inventory.left_out import LeftOut
from runtime.inventory.names import HIDDEN, SYSTEM, THUMBNAILS, folder_reason
from runtime.inventory.walk import AGAIN, CLASSES, LOOP, UNREADABLE, reason_of, walk
from runtime.sources.base import Input
from runtime.sources.folder import labels_of, take_folder
from runtime.sources.found import Found, failed, video_endings
from runtime.storage import disk
from runtime.storage.files import expanded

_ANY = "**"
_FOLDERS = (HIDDEN, THUMBNAILS, SYSTEM, LOOP, AGAIN, CLASSES, UNREADABLE)
"""Reasons that leave out whole folders, which may hold files that match."""


def is_pattern(word: str) -> bool:
    """Return whether a word that is not an existing path can match several."""
    return glob.has_magic(word)


def take_pattern(word: str, recursive: bool) -> Found:
    """Return the images and videos that match a pattern, and those in folders that match.

    Args:
        word: Pattern of `*`, `?` and `[...]`, where `**` stands for any number of folders.
        recursive: Whether to enter subfolders of folders that match.
    """
    parts = expanded(word).parts
    fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    base = os.path.join("", *parts[:fixed])
    if _ANY in parts:
        found = _below(parts, base)
    else:
        found = Found()
        for path in sorted(glob.glob(os.path.join("", *parts))):
            found.add(_match(path, base, recursive))
    if found.inputs or found.left_out or found.closed:
        return found.or_error(word, f"'{word}' matches no images or videos")
    error = DataError(f"no file matches '{word}'; check the pattern")
    if base and disk.is_folder(base):
        try:
            walk(Path(base), recursive=False)
        except DataError as denied:  # `glob` takes what it may not list for empty
            error = denied
    return failed(word, error)


def _match(path: str, base: str, recursive: bool) -> Found:
    """Return what one path stands for that matches."""
    if disk.is_folder(path):
        reason = folder_reason(os.path.basename(path), inside_class=True)
        if reason is not None:
            return Found(left_out=[LeftOut(Path(path), reason)])
        found = take_folder(path, recursive, f"{_input(path, base).saved_as}/")
        found.inputs = [given for given in found.inputs if given.error is None]
        return found
    reason = reason_of(path, video_endings())
    if reason is not None:
        return Found(left_out=[LeftOut(Path(path), reason)])
    return Found([_input(path, base)])


def _input(path: str, base: str) -> Input:
    """Return a path that matches, with its names below the part of the pattern that is fixed."""
    inside = os.path.relpath(path, base or ".")
    return Input(path, Path(inside).as_posix(), labels_of(base or ".", inside))


def _below(parts: Sequence[str], base: str) -> Found:
    """Return the files below folders that match; links in a circle are followed once."""
    start, found = list(parts).index(_ANY), Found()
    pattern = [part for part, _ in groupby(parts[start:])]  # `**/**` is `**`
    head = os.path.join("", *parts[:start])
    for folder in sorted(glob.glob(head)) if head else ["."]:
        if not disk.is_folder(folder):
            continue
        try:
            tree = walk(Path(folder), also=video_endings())
        except DataError as error:
            found.add(failed(folder, error))
            continue
        for path in sorted(path for paths in tree.images.values() for path in paths):
            if _fits(Path(os.path.relpath(path, folder)).parts, pattern):
                found.inputs.append(_input(str(path), base))
        for left in tree.left_out:
            inner = Path(os.path.relpath(left.path, folder)).parts
            if _fits(inner, pattern) or left.reason in _FOLDERS:
                found.left_out.append(left)
    return found


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Return whether the parts of a path match those of a pattern."""
    if not pattern:
        return not parts
    if pattern[0] == _ANY:
        return any(_fits(parts[skip:], pattern[1:]) for skip in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])
