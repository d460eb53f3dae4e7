"""Where caches lie."""

from __future__ import annotations

import os
from pathlib import Path


def folder() -> Path:
    """Return the cache folder: `$UDA_CACHE`, else `~/.cache/uda-adapt`."""
    chosen = os.environ.get("UDA_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "uda-adapt"
