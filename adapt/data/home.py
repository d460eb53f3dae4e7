"""Locate the cache folder."""

from __future__ import annotations

from pathlib import Path

from runtime.storage.caches import cache_folder


def folder() -> Path:
    """Return the cache folder: `$UDA_CACHE`, else `~/.cache/uda-adapt`."""
    return cache_folder("UDA_CACHE")
