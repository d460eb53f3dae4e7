"""Read the files of a harvest by its manifest; nothing in it is trusted.

FOLDER/manifest.jsonl        one line for the kind, then one per image kept or removed
FOLDER/trusted/              images to adapt to, on which the task that saw them was sure
FOLDER/unsure/               images for a person to look at
FOLDER/held-out/             images of all kinds, never trained on
FOLDER/sorted/<class>/       made by a person, who moves images there
FOLDER/none-of-these/        likewise, for images of no class
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from runtime.errors import FormatError
from runtime.models import check_sha256
from runtime.monitoring.gaussian import Features
from runtime.storage import disk
from runtime.storage.fields import build
from runtime.storage.files import open_regular, read_bytes
from runtime.storage.json_text import parse

MANIFEST, LOCK = "manifest.jsonl", "harvest.lock"
SORTED, NONE = "sorted", "none-of-these"
Part = Literal["trusted", "unsure", "held-out"]
TRUSTED: Part = "trusted"
UNSURE: Part = "unsure"
HELD_OUT: Part = "held-out"
PARTS = (TRUSTED, UNSURE, HELD_OUT)
MAX_BYTES = 64 << 20
"""Largest manifest."""
MAX_LINE = 1 << 14
"""Longest line of a manifest, in bytes; an image that needs more is not kept."""
MAX_IMAGES = 4000
"""Most images of a harvest."""
NAME = re.compile(r"[0-9a-f]{16}\.png")
HEAD = {"kind": "uda-harvest", "schema": 1}
"""First line of the manifest."""
_LATEST = 1e11
"""Latest time of an image, in seconds since 1970."""
_LIMIT = 6e4
"""Largest value of a stored whitened feature: half precision ends at 65,504."""


@dataclass(frozen=True)
class Entry:
    """One image of a harvest."""

    file: str
    """Name of the file: the first 16 digits of its SHA-256."""
    sha256: str
    part: Part
    sure: bool
    """Whether the task that saw the image was among its surer half."""
    task: str
    """Id of that task."""
    label: str
    """Class that it predicted."""
    score: float
    """Softmax of that class, in [0, 1]."""
    seen: int
    """Number of frames that were looked at for this part, up to this one."""
    time: float
    """Seconds since 1970."""
    basis: str = ""
    """Digest of the statistics that the features are whitened by."""
    whitened: str = ""
    """Features of a trusted image along the axes, half precision, base64."""

    def __post_init__(self) -> None:
        check_sha256(self.sha256)
        if not NAME.fullmatch(self.file) or self.file != f"{self.sha256[:16]}.png":
            raise ValueError(f"a file is named {self.file!r:.60}")
        if not 0 <= self.score <= 1 or self.seen < 0:
            raise ValueError(f"it has a score of {self.score:g} and was frame {self.seen}")
        if not 0 <= self.time <= _LATEST:
            raise ValueError(f"it was taken {self.time:g} seconds after 1970")
        self.features()

    def features(self) -> Features:
        """Return the whitened features (R,); empty where there are none.

        Raises:
            ValueError: They are damaged.
        """
        try:
            content = base64.b64decode(self.whitened, validate=True)
        except binascii.Error as error:
            raise ValueError("its features are not base64") from error
        if len(content) % 2:
            raise ValueError("its features are cut off")
        found = np.frombuffer(content, "<f2").astype(np.float32)
        if not bool(np.isfinite(found).all()):
            raise ValueError("its features are not finite")
        return found


def encoded(features: Features) -> str:
    """Return features (R,) as `Entry.whitened` holds them."""
    half = np.clip(np.nan_to_num(features), -_LIMIT, _LIMIT).astype("<f2")
    return base64.b64encode(half.tobytes()).decode()


def is_harvest(folder: Path) -> bool:
    """Return whether a folder is a harvest, by the first line of its manifest.

    Raises:
        StorageError: Access is denied.
    """
    path = folder / MANIFEST
    if not disk.is_file(path):
        return False
    try:
        with open_regular(path) as stream:
            found = parse(stream.readline(MAX_LINE))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("kind") == HEAD["kind"]


def read(folder: Path) -> list[Entry]:
    """Return the images of a harvest, oldest first; their files may be missing.

    A last line that was not finished, as when its writer was killed, is left out.

    Raises:
        FormatError: The manifest is missing, damaged or of another version.
    """
    path = folder / MANIFEST
    lines = read_bytes(path, MAX_BYTES).split(b"\n")[:-1]
    found: dict[str, Entry] = {}
    for number, line in enumerate(lines, 1):
        where = f"'{path}', line {number}"
        try:
            content = parse(line) if len(line) <= MAX_LINE else None
        except ValueError as error:
            raise FormatError(f"{where} is not JSON ({error}); move the folder away") from error
        if number == 1:
            if content != HEAD:
                raise FormatError(f"{where}: expected {json.dumps(HEAD)}; update uda-edge")
        elif isinstance(content, dict) and content.keys() == {"removed"}:
            found.pop(str(content["removed"]), None)
        else:
            entry = build(Entry, content, where)
            found[entry.file] = entry
    if not lines:
        raise FormatError(f"'{path}' is empty; move the folder away")
    if len(found) > 2 * MAX_IMAGES:
        raise FormatError(f"'{path}' has {len(found)} images, expected {2 * MAX_IMAGES} at most")
    return list(found.values())


def find(folder: Path, entry: Entry, classes: Iterable[str]) -> tuple[Path, str] | None:
    """Return the path of an image and the folder it is in: a part, `NONE`, or one in `SORTED`.

    Args:
        folder: Folder of the harvest.
        entry: Image to find.
        classes: Names of the folders in `SORTED`.

    Returns:
        None where the file is gone.

    Raises:
        StorageError: Access is denied.
    """
    inside = (f"{SORTED}/{name}" for name in classes)
    for name in (entry.part, *PARTS, NONE, *inside):  # a person may have moved it
        if disk.is_file(folder / name / entry.file):
            return folder / name / entry.file, name
    return None


def sorted_classes(folder: Path) -> list[str]:
    """Return the names of the folders in `SORTED`, sorted.

    Raises:
        StorageError: Access is denied.
    """
    where = folder / SORTED
    if not disk.is_folder(where):
        return []
    try:
        names = sorted(os.listdir(where))
    except OSError as error:
        raise disk.refused(where, error) from error
    return [name for name in names if not name.startswith(".") and disk.is_folder(where / name)]
