"""The files of the page."""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import NamedTuple

_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}


class File(NamedTuple):
    """A file as it is sent."""

    content: bytes
    type: str
    tag: str
    """HTTP's ETag."""


def read() -> dict[str, File]:
    """Return the files by their paths in the page's address; `/` is index.html."""
    found = {}
    for file in (resources.files(__package__) / "page").iterdir():
        suffix = file.name[file.name.rfind(".") :]
        if suffix in _TYPES:
            content = file.read_bytes()
            tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
            path = "/" if file.name == "index.html" else f"/{file.name}"
            found[path] = File(content, _TYPES[suffix], tag)
    return found


def version(files: dict[str, File]) -> str:
    """Return what changes with any of the files: a page that is older loads itself again."""
    tags = "".join(files[path].tag for path in sorted(files))
    return hashlib.sha256(tags.encode()).hexdigest()[:16]
