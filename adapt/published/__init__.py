"""Read the figures that papers print for a data set, from one YAML file each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Literal

from runtime.errors import FormatError
from runtime.storage.fields import build

By = Literal["tasks", "targets", "classes"]
Protocol = Literal["standard", "partial", "cprs"]
TOLERANCE = 0.1
"""Tolerance in percent: printed values and averages are each rounded, some averages cut."""
BACKBONES = {"RN50": "RN50", "RN101": "RN101", "ViT-B-16": "ViT-B/16", "ViT-L-14": "ViT-L/14"}
"""Names in the papers by open_clip's, without `-quickgelu`."""


@dataclass(frozen=True)
class PublishedRow:
    """One line of a printed table, in percent."""

    label: str
    """Name of the method in the papers."""
    backbone: str
    """Backbone, a value of `BACKBONES`."""
    source: str
    """Source, a key of `Published.sources`."""
    average: float
    variant: str | None = None
    """Our variant, as in the artifacts' folders; None if we have no such method."""
    by: By | None = None
    """Kind of the columns; None if only the average is known."""
    values: tuple[float, ...] = ()
    """Values, one per column of that kind."""
    mean: float | None = None
    """Mean of the values, if the printed average differs."""
    dsp: float | None = None
    """Parameters stored for all tasks together, in millions."""
    protocol: Protocol = "standard"
    """`partial`: the target lacks classes of the source. `cprs`: four of DomainNet's domains."""
    note: str = ""
    """Note on comparability."""

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES.values():
            raise ValueError(f"'{self.label}' has an unknown backbone '{self.backbone}'")
        if not all(0 <= value <= 100 for value in (*self.values, self.average)):
            raise ValueError(f"'{self.label}' has a value that is not a percentage")
        if (self.by is None) != (not self.values):
            raise ValueError(f"'{self.label}' must have both 'by' and 'values', or neither")
        expected = self.average if self.mean is None else self.mean
        if self.values and abs(mean(self.values) - expected) > TOLERANCE + 1e-9:
            raise ValueError(
                f"the values of '{self.label}' on {self.backbone} have the mean "
                f"{mean(self.values):.2f}, not {expected}"
            )


@dataclass(frozen=True)
class Published:
    """All published figures of one data set."""

    dataset: str
    metric: Literal["accuracy", "mean_per_class"]
    """Metric of the data set."""
    columns: dict[str, tuple[str, ...]]
    """Tasks, target domains or classes, in the printed order."""
    sources: dict[str, str]
    """Papers and tables by key."""
    rows: tuple[PublishedRow, ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if row.source not in self.sources:
                raise ValueError(f"'{row.label}' has the unknown source '{row.source}'")
            if row.by and len(row.values) != len(self.columns.get(row.by, ())):
                raise ValueError(f"'{row.label}' has {len(row.values)} values for its {row.by}")
        unused = self.sources.keys() - {row.source for row in self.rows}
        if unused:
            raise ValueError(f"no row has the source '{min(unused)}'")

    def of(self, model: str, protocol: str) -> tuple[PublishedRow, ...]:
        """Return the rows of a backbone and a protocol, in the file's order.

        Args:
            model: open_clip's name of the architecture.
            protocol: Protocol, see `Protocol`.
        """
        backbone = BACKBONES.get(model.removesuffix("-quickgelu"))
        return tuple(r for r in self.rows if (r.backbone, r.protocol) == (backbone, protocol))


def load(dataset: str, folder: Path | None = None) -> Published | None:
    """Return the published figures of a data set; None if there are none.

    Args:
        dataset: Name of the data set.
        folder: Folder of the files; None means the shipped ones.

    Raises:
        FormatError: The file is damaged.
    """
    import yaml

    known = {path.stem: path for path in files(folder)}
    if dataset not in known:
        return None
    where = f"published figures of '{dataset}'"
    try:
        values = yaml.safe_load(known[dataset].read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise FormatError(f"{where} cannot be read: {' '.join(str(error).split())}") from error
    return build(Published, values, where)


def files(folder: Path | None = None) -> Sequence[Path]:
    """Return the files of published figures, one per data set."""
    return sorted((folder or Path(__file__).parent).glob("*.yaml"))
