"""Read the header of a safetensors file within bounds, before the library reads the file."""

from __future__ import annotations

from typing import Any, BinaryIO

from runtime.storage.json_text import parse

MAX_HEADER = 1 << 26
"""Largest header; the base of ViT-B/16 has one of 14 kB, and a task file's holds its document."""


def read_header(stream: BinaryIO) -> dict[str, Any]:
    """Return the header at the start of a safetensors file, as JSON.

    Only its size and the bounds of `runtime.storage.json_text` are checked; the rest is checked by
    the library, which reads the file next.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file has no header, or the header exceeds a bound.
    """
    size = int.from_bytes(stream.read(8), "little")
    if not 2 <= size <= MAX_HEADER:
        raise ValueError(f"its header has {size} bytes, expected 2 to {MAX_HEADER}")
    content = stream.read(size)
    if len(content) < size:
        raise ValueError("it ends within its header")
    header = parse(content)
    if not isinstance(header, dict):
        raise ValueError("its header is not a JSON object")
    return header
