"""Image and video file formats that can be read here, by file extension."""

from __future__ import annotations

import functools
import importlib.util

SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif")
)
"""Endings, in lower case, that every install reads."""
AVIF = frozenset((".avif",))
"""Read by Pillow from 11.3 on, where it was built with AVIF."""
HEIF = frozenset((".heic", ".heif", ".hif"))
"""Photographs of phones; read with the extra [heif]."""

KNOWN = SUFFIXES | AVIF | HEIF
VIDEO = frozenset(
    (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp")
    + (".ogv", ".mts", ".m2ts", ".mjpeg", ".mjpg")
)
"""Endings of videos, in lower case; read with the extra [camera]."""


@functools.cache
def readable() -> frozenset[str]:
    """Return the endings of the files that are taken for images, in lower case."""
    extra = (AVIF if _reads_avif() else ()), (HEIF if register() else ())
    return SUFFIXES.union(*extra)


def listed() -> list[str]:
    """Return the endings that are read, for messages: the common ones first."""
    return [*sorted(SUFFIXES), *sorted(readable() - SUFFIXES)]


def advice(suffix: str) -> str | None:
    """Return a hint how to read files of an ending; None if there is none, or they are readable."""
    if suffix in HEIF and suffix not in readable():
        return "install the extra [heif] to read them"
    if suffix in AVIF and suffix not in readable():
        return "install Pillow 11.3 or later to read them"
    return None


@functools.cache
def register() -> bool:
    """Let Pillow read HEIF files if the extra [heif] is installed; return whether it is."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def _reads_avif() -> bool:
    return importlib.util.find_spec("PIL._avif") is not None
