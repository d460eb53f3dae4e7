"""Write tables and text as Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from runtime.text import printable


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return rows as the lines of a Markdown table."""
    lines = [header, ["---"] * len(header), *([markdown_text(cell) for cell in r] for r in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def markdown_text(value: object) -> str:
    """Return text that Markdown shows as it is."""
    # An underscore within a word is one; at its end it would be emphasis.
    return re.sub(r"([\\`*|<>\[\]]|(?<!\w)_|_(?!\w))", r"\\\1", printable(value))
