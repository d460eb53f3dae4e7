"""Turn image files into thumbnails inside a page, until these reach a size."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from runtime.errors import DataError
from runtime.frames.preprocess import read_image
from runtime.models import Background

MAX_BYTES = 12 << 20
"""Largest number of bytes of a page's thumbnails; base64 adds a third."""
_QUALITY = 80
_TOO_MANY = "left out of a large page"
_TINY = 48
"""Longest side in pixels up to which an image is enlarged without smoothing."""


@dataclass(frozen=True)
class Thumbnail:
    """An image of a page."""

    name: str
    """End of its path: domain, class and file."""
    uri: str | None = None
    """The picture as a `data:` URI; None where only the name is shown."""
    tiny: bool = False
    problem: str = ""
    """Reason for a missing picture."""


class Album:
    """The pictures of one page."""

    def __init__(self, images: bool = True, limit: int = MAX_BYTES) -> None:
        """Begin without pictures.

        Args:
            images: Whether to show pictures, rather than names alone.
            limit: Bytes of all thumbnails.
        """
        self.images, self.shown, self.left_out = images, 0, 0
        self._left = limit

    def thumbnails(
        self, paths: Sequence[Path], side: int, background: Background = "white"
    ) -> list[Thumbnail]:
        """Return images as they look, with their aspect ratio, in the order of the paths.

        Args:
            paths: Image files; unreadable ones are shown by name.
            side: Longest side in pixels; smaller images stay as they are.
            background: Colour behind transparent pixels.
        """
        names = [path_name(path) for path in paths]
        if not self.images:
            return [Thumbnail(name) for name in names]
        if self.left_out:  # nothing is read that would not be shown
            self.left_out += len(paths)
            return [Thumbnail(name, problem=_TOO_MANY) for name in names]
        with ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, 8)) as pool:
            found = list(pool.map(lambda path: _jpeg(path, side, background), paths))
        return [self._take(name, *one) for name, one in zip(names, found, strict=True)]

    def _take(self, name: str, content: bytes, longest: int) -> Thumbnail:
        if not content:
            return Thumbnail(name, problem="cannot be read")
        if len(content) > self._left:
            self.left_out += 1
            return Thumbnail(name, problem=_TOO_MANY)
        self._left -= len(content)
        self.shown += 1
        return Thumbnail(name, data_uri("jpeg", content), longest <= _TINY)


def path_name(path: Path) -> str:
    """Return the end of an image's path, which says its domain, class and file."""
    return "/".join(path.parts[-3:])


def data_uri(kind: str, content: bytes) -> str:
    """Return a picture as a `data:` URI, which holds it.

    Args:
        kind: Format of the picture, such as `jpeg`.
        content: Content of its file.
    """
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _jpeg(path: Path, side: int, background: Background) -> tuple[bytes, int]:
    """Return a thumbnail's file, and the longest side of its image; no bytes if unreadable."""
    try:
        image = Image.fromarray(read_image(path, draft=side, background=background))
    except DataError:
        return b"", 0
    longest = max(image.size)
    if longest > side:
        size = np.maximum(np.round(np.array(image.size) * side / longest), 1).astype(int)
        image = image.resize((int(size[0]), int(size[1])), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=_QUALITY)
    return stream.getvalue(), longest
