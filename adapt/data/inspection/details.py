"""Take the full inventory of the user's own domains for `uda-adapt data check`."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from adapt.data.base import ImageSet, some
from adapt.data.cache import UNREADABLE
from adapt.data.inspection import repeats
from adapt.data.inspection.look import Look, look_at
from adapt.data.inspection.repeats import Pair, Repeats
from adapt.data.inventory import spread
from adapt.data.own_domains import OwnDomain
from runtime.console import count_of
from runtime.inventory.left_out import counted, left_out_line

FEW, SHARE = 3, 0.1
"""Number of images, and share of the median class, below which a class is nearly empty."""
_SIZES = 3
"""Number of different sizes that are listed; more are summed up."""


@dataclass(frozen=True, eq=False)
class Details:
    """One domain, with every image looked at."""

    name: str
    domain: OwnDomain
    images: ImageSet
    """Images of all splits that are used."""
    looks: tuple[Look, ...]
    """Description of each image."""

    @classmethod
    def of(cls, name: str, domain: OwnDomain) -> Details:
        """Read all images of a domain.

        Raises:
            DataError: A file no longer exists.
        """
        images = domain.all()
        return cls(name, domain, images, tuple(look_at(images.paths)))

    @cached_property
    def repeats(self) -> Repeats:
        """Copies in this domain."""
        return repeats.within(self.images)

    @cached_property
    def counts(self) -> dict[str, int]:
        """Images per class, in the order of the classes; empty without labels."""
        if not self.images.classes:
            return {}
        numbers = np.bincount(self.images.labels, minlength=len(self.images.classes))
        return dict(zip(self.images.classes, numbers.tolist(), strict=True))

    @property
    def unreadable(self) -> list[Path]:
        """Images that cannot be read."""
        return self.chosen("problem")

    def chosen(self, what: str) -> list[Path]:
        """Return the images of which a field of `Look` is true."""
        both = zip(self.images.paths, self.looks, strict=True)
        return [path for path, look in both if getattr(look, what)]

    def nearly_empty(self) -> dict[str, int]:
        """Return the classes with very few images."""
        if not self.counts:
            return {}
        least = max(FEW, SHARE * statistics.median(self.counts.values()))
        return {name: count for name, count in self.counts.items() if 0 < count < least}

    def kinds(self) -> dict[str, int]:
        """Return how many images are transparent, of 16 bits, grey, blank, copies, unreadable."""
        names = {"transparent": "transparent", "deep": "16-bit", "grey": "grey", "blank": "blank"}
        found = {name: len(self.chosen(field)) for field, name in names.items()}
        return {**found, "copies": len(self.repeats.copies), "unreadable": len(self.unreadable)}

    def lines(self) -> Iterator[str]:
        """Yield the inventory as lines for people."""
        taken = self.domain.train_name
        if self.domain.test is not None:
            taken += f" (training) and {self.domain.test_name} (test)"
        yield f"{taken}: {count_of(len(self.images), 'image')}{_per_class(self.counts)}"
        yield f"  {left_out_line(self.domain.left_out)}"
        yield f"  sizes {sizes(self.looks)}; " + ", ".join(
            f"{k} {n:,}" for k, n in self.kinds().items()
        )

    def warnings(self) -> Iterator[str]:
        """Yield warnings, one line each."""
        yield from self.domain.findings
        few = self.nearly_empty()
        if few:
            fewest = sorted(few, key=few.__getitem__)
            yield f"few images (up to {max(few.values())}) in {some(fewest)}"
        share = f"of {count_of(len(self.images), 'image')}"
        if bad := self.unreadable:
            yield f"{len(bad)} {share} cannot be read, the first: '{bad[0]}'"
        if blank := self.chosen("blank"):
            yield f"one colour fills {len(blank)} {share}, the first: '{blank[0]}'"
        if self.repeats.conflicts:
            yield f"{_pairs(self.repeats.conflicts)}, with two labels; keep one of each"
        elif self.repeats.copies:
            yield _pairs(self.repeats.copies)
        if self.domain.test is not None:
            shared = repeats.between(self.domain.test, self.domain.train)
            if shared:
                yield f"{_pairs(shared)}: test images that are in the training split"

    def refusal(self) -> str | None:
        """Return why training would refuse the images of this domain, or None."""
        if self.domain.findings:
            return self.domain.findings[0]
        bad = set(self.unreadable)
        for images in (self.domain.train, self.domain.test):
            lost = len(bad & set(images.paths)) if images else 0
            if images and lost and lost >= UNREADABLE * len(images):
                return (
                    f"{lost} of {count_of(len(images), 'image')} of '{self.name}' cannot be read; "
                    f"training tolerates less than {100 * UNREADABLE:g} %; repair or remove them, "
                    f"the first is '{self.unreadable[0]}'"
                )
        return None

    def as_dict(self) -> dict[str, Any]:
        """Return everything for a JSON file."""
        return {
            "images": len(self.images),
            "classes": self.counts,
            **spread(tuple(self.counts.values())),
            "left_out": counted(self.domain.left_out),
            "left_out_paths": [
                {"path": str(left.path), "reason": left.reason, "files": left.files}
                for left in self.domain.left_out
            ],
            "sizes": {f"{w}x{h}": n for (w, h), n in _sizes(self.looks).most_common()},
            "kinds": self.kinds(),
            "nearly_empty": self.nearly_empty(),
            "blank": [str(path) for path in self.chosen("blank")],
            "copies": [[str(one), str(other)] for one, other in self.repeats.copies],
            "two_labels": [[str(one), str(other)] for one, other in self.repeats.conflicts],
        }


def across(details: Sequence[Details]) -> Iterator[str]:
    """Yield which domains have images in common, one line each."""
    for position, one in enumerate(details):
        for other in details[position + 1 :]:
            if {*one.images.paths} & {*other.images.paths}:
                continue  # a list of the images of a folder
            shared = repeats.between(other.images, one.images)
            if shared:
                yield f"'{one.name}' and '{other.name}': {_pairs(shared)}"


def sizes(looks: Sequence[Look]) -> str:
    """Return the sizes of images for people."""
    found = _sizes(looks)
    if not found:
        return "unknown"
    if len(found) <= _SIZES:
        return ", ".join(f"{w} x {h} ({n:,})" for (w, h), n in found.most_common())
    by_area = sorted(found.elements(), key=lambda size: (size[0] * size[1], size))
    low, middle, high = by_area[0], by_area[len(by_area) // 2], by_area[-1]
    shown = [f"{w} x {h}" for w, h in (low, high, middle)]
    return f"{shown[0]} to {shown[1]}, median {shown[2]}"


def _sizes(looks: Sequence[Look]) -> Counter[tuple[int, int]]:
    return Counter(look.size for look in looks if look.problem is None)


def _per_class(counts: dict[str, int]) -> str:
    if not counts:
        return " without labels"
    numbers = spread(tuple(counts.values()))["per_class"]
    least, most = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    return (
        f" of {len(counts)} classes; per class min {numbers['min']:,} ({least}), median "
        f"{numbers['median']:g}, max {numbers['max']:,} ({most})"
    )


def _pairs(pairs: Sequence[Pair]) -> str:
    one, other = pairs[0]
    what = "image is a copy" if len(pairs) == 1 else "images are copies"
    return f"{len(pairs)} {what} of another, the first: '{other}' of '{one}'"
