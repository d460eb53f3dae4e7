"""Take the images and videos of a folder."""

from __future__ import annotations

import os
from itertools import chain
from pathlib import Path

from runtime.errors import DataError
from runtime.inventory.walk import walk
from runtime.sources.base import Input
from runtime.sources.found import Found, failed, video_endings
from runtime.storage.spelling import composed


def take_folder(word: str, recursive: bool, prefix: str = "") -> Found:
    """Return the images and videos of a folder, sorted by path.

    Args:
        word: Path of the folder.
        recursive: Whether to enter its subfolders.
        prefix: Start of the relative paths to save under, a folder's name with a slash.
    """
    try:
        tree = walk(Path(word), recursive=recursive, also=video_endings())
    except DataError as error:
        return failed(word, error)
    found = Found(left_out=list(tree.left_out), closed=0 if recursive else len(tree.folders))
    for path in sorted(chain.from_iterable(tree.images.values())):
        inside = os.path.relpath(path, word)
        labels = labels_of(word, inside)
        found.inputs.append(Input(str(path), prefix + Path(inside).as_posix(), labels))
    return found.or_error(word, f"'{word}' holds no images or videos")


def labels_of(folder: str, inside: str) -> tuple[str, ...]:
    """Return the names of folders that may be an image's class, the most likely first.

    Args:
        folder: Folder that a user named; its name comes last.
        inside: Path of the image in it.
    """
    own = os.path.basename(os.path.abspath(folder))
    names = (*Path(inside).parent.parts, own)
    return tuple(dict.fromkeys(composed(name) for name in names if name))
