"""Count the files that are left out, by reason, and name the reasons to people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime.console import count_of
from runtime.frames import formats

_ENDINGS = 5
"""Number of file endings that one line names; the others are summed up."""


@dataclass(frozen=True)
class LeftOut:
    """A file or a folder that was not taken."""

    path: Path
    reason: str
    """A label for a count, like `hidden` or `.heic`."""
    files: int = 1
    """Number of files it stands for."""


def counted(left_out: Iterable[LeftOut]) -> dict[str, int]:
    """Return how many files were left out, by reason, the most frequent first."""
    counts: Counter[str] = Counter()
    for left in dict.fromkeys(left_out):
        counts[left.reason] += left.files
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def left_out_line(left_out: Iterable[LeftOut]) -> str:
    """Return left-out files in one line: `left out 12: .heic 10 (install ...), hidden 2`."""
    counts = counted(left_out)
    if not counts:
        return "nothing left out"
    return f"left out {sum(counts.values()):,}: {reasons(counts)}"


def reasons(counts: Mapping[str, int]) -> str:
    """Return reasons with their counts, and advice where there is some."""
    parts = []
    endings = [reason for reason in counts if reason.startswith(".")]  # the most frequent first
    for reason, count in counts.items():
        if reason in endings[_ENDINGS:]:
            continue
        advice = formats.advice(reason)
        parts.append(f"{reason} {count:,}" + (f" ({advice})" if advice else ""))
    if rest := endings[_ENDINGS:]:
        files = sum(counts[ending] for ending in rest)
        parts.append(f"{count_of(len(rest), 'more ending')} {files:,}")
    return ", ".join(parts)
