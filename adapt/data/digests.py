"""Compare digests of image sets, which follow one of two rules.

A digest reads `content:<sha256> names:<sha256>`: the first over the contents of the files and their
labels, the second over their names, sizes and labels. Artifacts and checkpoints of schema 1, and
earlier spot checks, hold the second alone, without its name. Two digests are compared by the
strongest rule that both have, so images may move and be renamed, and old files stay usable.
"""

from __future__ import annotations

from runtime.models import check_sha256

CONTENT, NAMES = "content", "names"


def join(content: str, names: str) -> str:
    """Return the digest of an image set from its two parts, SHA-256 in hexadecimal digits."""
    return f"{CONTENT}:{content} {NAMES}:{names}"


def check(value: str) -> str:
    """Return `value` if it is the digest of an image set, by both rules or by names alone.

    Raises:
        ValueError: The value is not such a digest.
    """
    parts = _parse(value)
    if ":" in value and value != join(parts.get(CONTENT, ""), parts.get(NAMES, "")):
        raise ValueError(f"'{value[:80]}' is not the digest of an image set")
    for part in parts.values():
        check_sha256(part)
    return value


def same(first: object, second: object) -> bool:
    """Return whether two digests are of the same images with the same labels, in one order."""
    if not isinstance(first, str) or not isinstance(second, str):
        return first == second
    one, other = _parse(first), _parse(second)
    rule = CONTENT if CONTENT in one and CONTENT in other else NAMES
    return rule in one and one[rule] == other.get(rule)


def _parse(value: str) -> dict[str, str]:
    """Return the parts of a digest by rule; a digest without rules is one of names."""
    if ":" not in value:
        return {NAMES: value}
    parts = (part.partition(":") for part in value.split(" "))
    return {rule: digest for rule, _, digest in parts}
