"""Find images that are copies of others: with two labels, or test images in training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from adapt.data.base import UNKNOWN, DomainPair, ImageSet
from adapt.data.contents import contents

Pair = tuple[Path, Path]
"""An image, and a later one of the same content."""


@dataclass(frozen=True)
class Repeats:
    """Copies in one set of images."""

    copies: tuple[Pair, ...] = ()
    conflicts: tuple[Pair, ...] = ()
    """Copies that have another label."""


def within(images: ImageSet) -> Repeats:
    """Return which images are copies of earlier ones, by content.

    Raises:
        DataError: A file no longer exists.
    """
    first: dict[bytes, int] = {}
    copies: list[Pair] = []
    conflicts: list[Pair] = []
    for index, known in enumerate(contents(images.paths)):
        digest = known.tobytes()
        earlier = first.setdefault(digest, index)
        if earlier == index or not any(digest):  # zeros: it cannot be read
            continue
        both = images.paths[earlier], images.paths[index]
        copies.append(both)
        labels = images.labels[earlier], images.labels[index]
        if labels[0] != labels[1] and UNKNOWN not in labels:
            conflicts.append(both)
    return Repeats(tuple(copies), tuple(conflicts))


def between(images: ImageSet, others: ImageSet) -> tuple[Pair, ...]:
    """Return the images whose content another set has: (the other's, ours).

    Raises:
        DataError: A file no longer exists.
    """
    found = (known.tobytes() for known in contents(others.paths))
    first = dict(zip(reversed(list(found)), reversed(others.paths), strict=True))
    sums = (known.tobytes() for known in contents(images.paths))
    return tuple(
        (first[digest], path)
        for digest, path in zip(sums, images.paths, strict=True)
        if any(digest) and digest in first
    )


def warnings(pair: DomainPair) -> list[str]:
    """Return warnings of copies that mislead training or its test, one line each.

    Raises:
        DataError: A file no longer exists.
    """
    found = []
    source, conflicts = pair.source, within(pair.source).conflicts
    if conflicts:
        found.append(
            f"{len(conflicts)} of {len(source)} images of the source '{source.domain}' are copies "
            f"of images with another label, the first: '{conflicts[0][0]}' and "
            f"'{conflicts[0][1]}'; keep one of each"
        )
    if pair.held_out:
        sides = {"source": pair.source, "target": pair.target}
        for role, images in sides.items():
            shared = between(pair.test, images)
            if shared:
                found.append(
                    f"{len(shared)} of {len(pair.test)} test images are copies of {role} images, "
                    f"so training has seen them, the first: '{shared[0][1]}' is '{shared[0][0]}'"
                )
    return found
