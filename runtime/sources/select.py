"""Find the inputs that command-line arguments name: files, folders, patterns, list files.

A file that is named itself is taken whatever its ending. In folders, and among the matches of a
pattern, images and videos are taken by their endings, and every other file is left out for a
reason, by the rules of `runtime.inventory`. A file that is found twice is taken once.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.console import count_of
from runtime.errors import DataError, StorageError
from runtime.frames import formats, opencv
from runtime.inventory.left_out import left_out_line
from runtime.inventory.lists import NAMES
from runtime.sources import kind_of
from runtime.sources.base import Input
from runtime.sources.folder import take_folder
from runtime.sources.found import Found, failed, parent
from runtime.sources.listed import take_list
from runtime.sources.patterns import is_pattern, take_pattern
from runtime.storage import disk

_LIST = ".txt"


@dataclass(frozen=True)
class Selection:
    """The inputs of all words, each once."""

    inputs: tuple[Input, ...]
    notes: tuple[str, ...]
    """What a user should know, one line each."""
    summary: str
    """What was taken and what was left out, in one line; empty if every word is a file, or if
    nothing was taken: the errors then say so."""
    lists: tuple[str, ...]
    """Files that were read besides these: lists, and the names of their classes."""


def select(words: Sequence[str], recursive: bool = False) -> Selection:
    """Return the inputs that words stand for, in their order.

    Args:
        words: Paths of files, folders and list files (`.txt`), and patterns; at least one.
        recursive: Whether to enter subfolders.
    """
    whole, plain, lists = Found(), True, []
    home = os.path.commonpath([os.path.dirname(os.path.abspath(word)) for word in words])
    for word in words:
        found, is_file = _take(word, recursive, home, len(words) == 1)
        plain = plain and is_file
        if not is_file and word.lower().endswith(_LIST):
            lists += [word, os.path.join(os.path.dirname(word), NAMES)]
        whole.add(found)
    once: dict[str, Input] = {}
    for given in whole.inputs:
        once.setdefault(os.path.abspath(given.name), given)
    inputs, again = tuple(once.values()), len(whole.inputs) - len(once)
    if not opencv.available() and any(left.reason in formats.VIDEO for left in whole.left_out):
        whole.notes.append(f"videos are left out; {opencv.ADVICE} to read them")
    usable = any(given.error is None for given in inputs)
    summary = _summary(inputs, whole, again) if usable and not (plain and not again) else ""
    return Selection(inputs, tuple(whole.notes), summary, tuple(lists))


def _take(word: str, recursive: bool, home: str, only: bool) -> tuple[Found, bool]:
    """Return the inputs of a word, and whether it is the name of one file.

    Args:
        word: Word of the command line.
        recursive: Whether to enter subfolders.
        home: Folder that all words lie in; paths to save under are relative to it.
        only: Whether it is the only word; a folder is then not part of the paths to save under.
    """
    if not word:
        error = DataError("expected a path, found an empty word; check the command")
        return failed(word, error), True
    saved_as = Path(os.path.relpath(os.path.abspath(word), home)).as_posix()
    folder, there, denied = False, False, True
    with contextlib.suppress(StorageError):  # access is denied: reading it will say so
        folder, there, denied = disk.is_folder(word), disk.exists(word), False
    if folder:
        return take_folder(word, recursive, "" if only else f"{saved_as}/"), False
    if word.lower().endswith(_LIST):
        return take_list(word), False
    if not there and is_pattern(word):
        return take_pattern(word, recursive), False
    if not there and not denied and kind_of(word) == "image":
        return failed(word, DataError(f"'{word}' does not exist; check the path")), True
    labels = parent(word) if there else ()  # a camera lies in no folder
    return Found([Input(word, saved_as, labels)]), kind_of(word) == "image"


def _summary(inputs: Sequence[Input], found: Found, again: int) -> str:
    kinds = [kind_of(given.name) for given in inputs if given.error is None]
    taken = [count_of(kinds.count(kind), kind) for kind in dict.fromkeys(kinds)]
    parts = [", ".join(taken) or "nothing", left_out_line(found.left_out)]
    if again:
        parts.append(f"{again:,} found again and taken once")
    if found.closed:
        parts.append(f"{count_of(found.closed, 'folder')} not entered (--recursive enters them)")
    return "; ".join(parts)
