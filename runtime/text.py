"""Show text from files to people."""

from __future__ import annotations


def printable(value: object) -> str:
    """Return text on one line, without the characters that control a terminal."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
