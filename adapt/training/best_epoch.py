"""Keep the weights of the best epoch during training, and write its artifact at the end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from adapt.artifacts.artifact import Artifact
from adapt.artifacts.run import RunDescription
from adapt.compute import parallel
from adapt.evaluation import selection
from adapt.methods.base import Method
from adapt.settings.selectors import LAST
from adapt.training.record import EpochRow, metrics
from runtime.errors import FormatError
from runtime.models import BaseModel
from runtime.storage.files import storage_errors

FILE = "selected.safetensors"
"""Artifact of the best epoch so far, during training."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TestImages:
    """Images on which the accuracies of a run are measured."""

    held_out: bool
    """Whether training never sees them."""
    count: int
    digests: Mapping[str, str]
    """Digests of the image sets, by role."""


class BestEpoch:
    """Chooses the epoch whose weights become the artifact, and writes it."""

    def __init__(
        self,
        method: Method,
        base: BaseModel,
        reference: Mapping[str, NDArray[Any]],
        path: Path,
        description: RunDescription,
        tested: TestImages,
    ) -> None:
        """Prepare; nothing is written yet.

        Args:
            method: Method that is trained.
            base: Base model of the method.
            reference: Tensors of the untouched base, from `encoder_tensors`.
            path: Path of the artifact.
            description: Fields of the artifact that are the same for all epochs.
            tested: Test images.
        """
        self._method, self._base, self._reference = method, base, reference
        self._path, self._description, self._tested = path, description, tested
        config = description.config
        self._by = config["select"] if method.trains else LAST
        self._budget = config["rst_density"] if config["rst"] else 0.0
        self._selected_path = path.with_name(FILE)

    def keep(self, history: Sequence[EpochRow]) -> None:
        """Save the weights if the last epoch of `history` is the best so far.

        Raises:
            StorageError: The file cannot be written.
        """
        chooses = self._by != LAST
        if chooses and parallel.rank() == 0 and self.chosen(history) == len(history) - 1:
            self._artifact(history).save(self._selected_path)

    def finish(
        self, history: Sequence[EpochRow], complete: Callable[[Artifact], Artifact]
    ) -> Artifact:
        """Write the artifact of the chosen epoch, with the metrics of all, and return it.

        Args:
            history: Rows of the epochs.
            complete: Function that adds what depends on the chosen weights.

        Raises:
            FormatError: The saved weights are damaged, or of another epoch.
            StorageError: The file cannot be written.
        """
        artifact = self._artifact(history)
        if self.chosen(history) < len(history) - 1:
            selected = Artifact.load(self._selected_path)
            if selected.metrics["selected"] != artifact.metrics["selected"]:
                raise FormatError(
                    f"'{self._selected_path}' holds the weights of another epoch than epoch "
                    f"{history[self.chosen(history)]['epoch']}, which was chosen; train again "
                    "with --restart"
                )
            # Images may have moved since, so the artifact remembers where this run found them.
            artifact = replace(selected, metrics=artifact.metrics, optional=artifact.optional)
        parallel.wait()  # until every process has read it
        if parallel.rank() == 0:
            artifact = complete(artifact)
            artifact.save(self._path)
            with storage_errors(self._selected_path):
                self._selected_path.unlink(missing_ok=True)
            _log.info("wrote %s, %d bytes", self._path, self._path.stat().st_size)
        return artifact

    def chosen(self, history: Sequence[EpochRow]) -> int:
        """Return the position of the epoch whose weights are to be saved."""
        return choose(history, self._by, self._budget)

    def _artifact(self, history: Sequence[EpochRow]) -> Artifact:
        """Return the weights as they are now, with the metrics of all epochs so far."""
        deployed, tested = self._method.deploy(), self._tested
        chosen = None if self._by == LAST else (self._by, self.chosen(history))
        return Artifact.of(
            self._description,
            self._base,
            self._reference,
            deployed.encoder,
            deployed.head,
            metrics(history, tested.held_out, tested.count, tested.digests, chosen),
            deployed.tokens,
        )


def choose(history: Sequence[EpochRow], by: str, budget: float = 0.0) -> int:
    """Return the position of the epoch whose weights are to be saved.

    Args:
        history: Rows of the epochs.
        by: Name of a selector, from `adapt.settings.selectors.names()`.
        budget: Largest density of an epoch that may be chosen, or 0 for any. While no epoch meets
            it, the last one is chosen.
    """
    within = [i for i, row in enumerate(history) if not budget or row["density"] <= budget]
    if by == LAST or not within:
        return len(history) - 1
    return within[selection.choose([history[i] for i in within], by)]
