"""Show text from files to people, and commands that they can copy."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable


def printable(value: object) -> str:
    """Return text on one line, without the characters that control a terminal."""
    text = str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def quoted(word: object) -> str:
    """Return a word of a command as a shell reads it, without characters that control a terminal.

    A word that has any, or bytes that are not UTF-8, is written as `$'...'`, which bash, zsh and
    ksh understand.
    """
    text = str(word)
    if text.isprintable():
        return shlex.quote(text)
    return "$'" + "".join(map(_escaped, text)) + "'"


def shell_command(words: Iterable[object]) -> str:
    """Return words as a command that a person can copy into a shell."""
    return " ".join(map(quoted, words))


def _escaped(letter: str) -> str:
    if letter.isprintable():
        return f"\\{letter}" if letter in "\\'" else letter
    try:
        return "".join(f"\\{byte:03o}" for byte in os.fsencode(letter))
    except UnicodeEncodeError:  # a letter that no path on this system has
        return letter.encode("unicode_escape").decode()
