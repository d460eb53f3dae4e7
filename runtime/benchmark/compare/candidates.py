"""Every way to run bundles: precision, backend, device and strategy."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

from runtime import backends, strategies
from runtime.backends.names import index_of
from runtime.bundles.bundle import Bundle
from runtime.models import Precision
from runtime.text import shell_command

NotCompared = dict[str, str]
"""What is not compared, as `what`, and its `reason`, which names a way out."""


@dataclass(frozen=True)
class Candidate:
    """One way to run a bundle."""

    bundle: Path
    precision: Precision
    backend: str
    device: str
    strategy: str

    @property
    def name(self) -> str:
        """Backend, device and strategy, as `ort cpu patch`."""
        return f"{self.backend} {self.device} {self.strategy}"

    @property
    def options(self) -> str:
        """The options that choose it."""
        return f"--backend {self.backend} --device {self.device} --strategy {self.strategy}"

    @property
    def default(self) -> bool:
        """Whether it is what runs where nothing is chosen."""
        chosen = (self.backend, self.device, self.strategy)
        return chosen == (backends.DEFAULT, "cpu", strategies.DEFAULT)

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, JSON-serialisable."""
        return {**asdict(self), "bundle": str(self.bundle)}


def candidates(
    bundles: Sequence[Bundle],
    *,
    backend: str | None = None,
    device: str | None = None,
    strategy: str | None = None,
) -> list[Candidate]:
    """Return every way to run the bundles, those by default first.

    Args:
        bundles: Bundles of the same tasks.
        backend: The only backend to take; None for all of the registry.
        device: The only device to take, such as `cuda:1`; None for the CPU and the first GPU.
        strategy: The only strategy to take; None for all of the registry.

    Raises:
        BackendError: The device is unknown, or the backend does not run on it.
    """
    if device is not None:
        index_of(device)
        if backend is not None:
            backends.entry_for(backend, device)
    return [
        Candidate(bundle.path, bundle.manifest.precision, own, place, held)
        for bundle in bundles
        for own in _chosen(backends.BACKENDS, backends.DEFAULT, backend)
        for place in ((device,) if device else backends.BACKENDS[own].devices)
        if place.partition(":")[0] in backends.BACKENDS[own].devices
        for held in _chosen(strategies.STRATEGIES, strategies.DEFAULT, strategy)
    ]


def labels(candidates: Sequence[Candidate]) -> dict[Candidate, str]:
    """Return names that tell candidates apart: with their bundle where there are several."""
    bundles = {each.bundle for each in candidates}
    if len(bundles) < 2:
        return {each: each.name for each in candidates}
    plain = {path: path.name for path in bundles}
    if len(set(plain.values())) < len(plain):
        plain = {path: str(path) for path in bundles}
    return {each: f"{plain[each.bundle]}, {each.name}" for each in candidates}


def missing_precisions(bundles: Sequence[Bundle]) -> list[NotCompared]:
    """Return the precisions that none of the bundles has, and the command that exports them."""
    there = dict.fromkeys(bundle.manifest.precision for bundle in bundles)
    missing = [name for name in get_args(Precision) if name not in there]
    if not missing:
        return []
    what = "the bundle is" if len(bundles) == 1 else "the bundles are"
    command = shell_command(
        ["uda-runtime", "bench", *(b.path for b in bundles), "NEW", "--compare"]
    )
    return [
        {
            "what": f"precision {', '.join(missing)}",
            "reason": f"{what} in {' and '.join(there)}; export the tasks again with --precision "
            f"{missing[0]} --out NEW, then run: {command}",
        }
    ]


def _chosen(names: Iterable[str], default: str, only: str | None) -> list[str]:
    if only is not None:
        return [only]
    return sorted(names, key=lambda name: (name != default, name))
