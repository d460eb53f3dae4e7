"""Find words that were given up in the packages, the examples and the guides.

Run as `python tests/words.py [PATH...]`.

The names and idioms to use instead are in the table below. Keys inside files keep their names.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

GIVEN_UP = {
    r"\bsealed?\b(?!\"|`)|\bSealed\b": "checksummed",
    r"\bruntime[./]measuring\b": "runtime.benchmark",
    r"\b[Tt]old\b": "on_progress, ProgressCallback, or says",
    r"\b[Rr]emed(y|ies)\b": "hint",
    r"\b[Jj]udge": "classify, predict",
    r"\bkept_profile\b": "default_profile",
    r"\bworkplace\b": "a temporary sibling folder",
    r"\b(Shelf(?! Sink)|Switcher|Residents?|Pins)\b": "TaskCache, LoadedTask, Session",
    r"\b(parts_of|baked_parts|build_part|trt[./]parts)\b": "graphs_of, baked_graphs, build_engine",
    r"\bknown are\b": "available:",
    r"(?<!there )(?<!There )\b(is|are) no\b(?! longer)": "is not a",
    r"\b[Tt]wice is harmless\b": "Safe to call more than once",
    r"\b[Hh]ears of\b|\b[Ww]hat became of\b|\bneeds of needs\b": "a plain noun phrase",
    r"\bof no use\b": "ignored, invalid",
    r"\bso far as\b|\bin turns\b|\bby hand and by name\b": "the standard idiom",
    r"\bguides(=|\()": "teachers",
    r"^\s+\w+: (Whose|Likewise|Of (its|that|the|these|those|this))\b": "a noun phrase",
    r"\b(place|about)( = |: [A-Z])|\bstore\.place\b": "what it is: a path, a position, a status",
    r"\b(Run|Data)Facts\b|\bclass (Row|Plan)\b": "a name for each thing",
    r"\bgo(ing)?_on\b|\bto go on\b": "resume",
    r"\bcome along\b|\bmay not look\b|\bnothing takes\b": "survives, access is denied, unknown",
}
ROOT = Path(__file__).resolve().parent.parent
EVERYWHERE = ("runtime", "adapt", "export", "examples", "README.md", "CONTRIBUTING.md")


def found(folder: Path) -> list[str]:
    """Return a line for each given-up word in a file, or in the sources below a folder."""
    lines = []
    for path in [folder] if folder.is_file() else sorted(folder.rglob("*")):
        if path.suffix not in (".py", ".md", ".service"):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            for pattern, say in GIVEN_UP.items():
                match = re.search(pattern, line)
                if match:
                    lines.append(f"{path}:{number}: '{match[0]}': say {say}")
    return lines


if __name__ == "__main__":
    folders = [Path(name) for name in sys.argv[1:]] or [ROOT / name for name in EVERYWHERE]
    lines = [line for folder in folders for line in found(folder)]
    print("\n".join(lines), end="\n" if lines else "")
    sys.exit(bool(lines))
