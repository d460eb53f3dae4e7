"""Build profiles: ranges of batch size and class count, with the best length of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from runtime.errors import ConfigError, FormatError
from runtime.models import MAX_CLASSES, check_text
from runtime.storage import disk
from runtime.storage.fields import build
from runtime.storage.files import read_bytes
from runtime.storage.json_text import parse

MAX_BATCH = 1024
MAX_BYTES = 1 << 16


@dataclass(frozen=True)
class Span:
    """The lengths that an axis may have."""

    min: int
    opt: int
    """The length that the engine is optimised for."""
    max: int

    def __post_init__(self) -> None:
        if not 1 <= self.min <= self.opt <= self.max:
            raise ValueError(
                f"min {self.min}, opt {self.opt} and max {self.max} must be 1 or more and in this "
                "order"
            )

    def __str__(self) -> str:
        return f"{self.min}..{self.opt}..{self.max}"


@dataclass(frozen=True)
class Profile:
    """The batches and class counts of the engines of a bundle."""

    name: str
    batch: Span
    """Frames per run; more frames take several runs."""
    classes: Span
    """Class counts of the tasks; a task outside the range needs engines of another profile."""

    def __post_init__(self) -> None:
        check_text(self.name)
        if self.batch.min != 1:
            raise ValueError(f"batch: min must be 1, for single frames, found {self.batch.min}")
        if self.batch.max > MAX_BATCH:
            raise ValueError(f"batch: max may be {MAX_BATCH}, found {self.batch.max}")
        if self.classes.max > MAX_CLASSES:
            raise ValueError(f"classes: max may be {MAX_CLASSES}, found {self.classes.max}")

    def span(self, axis: str) -> Span:
        """Return the lengths of an axis by its name in the graphs, `batch` or `classes`.

        Raises:
            FormatError: No axis of our graphs is called so.
        """
        if axis not in ("batch", "classes"):
            raise FormatError(
                f"a graph has an axis '{axis[:40]}'; expected batch or classes; export the "
                "bundle again"
            )
        return self.batch if axis == "batch" else self.classes


_CLASSES = Span(2, 65, 1000)
PROFILES = {
    # A camera gives one frame at a time, a few cameras a few.
    "orin": Profile("orin", Span(1, 1, 8), _CLASSES),
    # Session.predict_many goes in batches of at most 32.
    "server": Profile("server", Span(1, 8, 32), _CLASSES),
}
DEFAULT = "orin"
_EXAMPLE = (
    '{"name": "kiosk", "batch": {"min": 1, "opt": 4, "max": 16}, '
    '"classes": {"min": 2, "opt": 31, "max": 345}}'
)


def load(name: str) -> Profile:
    """Return the profile of a name, or the one in a JSON file.

    A file holds `{"name": "kiosk", "batch": {"min": 1, "opt": 4, "max": 16}, "classes": {"min": 2,
    "opt": 31, "max": 345}}`.

    Args:
        name: A key of `PROFILES`, or the path of a file.

    Raises:
        ConfigError: Neither exists.
        FormatError: The file is not a profile.
    """
    if name in PROFILES:
        return PROFILES[name]
    hint = f"a profile is a file like {_EXAMPLE}"
    if not disk.is_file(name):
        known = ", ".join(sorted(PROFILES))
        raise ConfigError(f"unknown profile '{name}'; available: {known}, or a JSON file; {hint}")
    where = f"'{name}'"
    try:
        return build(Profile, parse(read_bytes(Path(name), MAX_BYTES)), where)
    except ValueError as error:
        raise FormatError(f"{where} is not JSON: {error}; {hint}") from error
    except FormatError as error:
        raise FormatError(f"{error}; {hint}") from error
