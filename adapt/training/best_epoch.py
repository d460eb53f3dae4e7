"""Keep the weights of the best epoch during training, and write its artifact at the end."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from adapt.artifacts.artifact import Artifact
from adapt.compute import parallel
from adapt.evaluation import selection
from adapt.methods.base import Method
from adapt.settings.model_config import Architecture
from adapt.settings.selectors import LAST
from adapt.training.record import Row, metrics
from runtime.errors import FormatError
from runtime.models import BaseModel, Preprocess, TaskInfo
from runtime.storage.files import storage_errors

FILE = "selected.safetensors"
"""The artifact of the epoch that is the best so far, while training goes on."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunFacts:
    """What an artifact says of its run, whatever epoch is chosen; see `Artifact`."""

    task: TaskInfo
    method: str
    preprocess: Preprocess
    prompts: tuple[str, ...]
    config: Mapping[str, Any]
    seed: int
    teachers: tuple[BaseModel, ...]
    architecture: Architecture | None
    optional: Mapping[str, Any]


@dataclass(frozen=True)
class MeasuredOn:
    """What the accuracies of a run were measured on."""

    held_out: bool
    """Whether training never sees them."""
    images: int
    digests: Mapping[str, str]
    """Digests of the image sets, by role."""


class BestEpoch:
    """Chooses the epoch whose weights are saved, and writes them."""

    def __init__(
        self,
        method: Method,
        base: BaseModel,
        reference: Mapping[str, NDArray[Any]],
        path: Path,
        facts: RunFacts,
        tested: MeasuredOn,
    ) -> None:
        """Write nothing yet.

        Args:
            method: What is trained.
            base: Its base model.
            reference: `encoder_tensors` of the base, taken before anything touched it.
            path: Of the artifact.
            facts: What the artifact says of the run.
            tested: The test images.
        """
        self._method, self._base, self._reference = method, base, reference
        self._path, self._facts, self._tested = path, facts, tested
        config = facts.config
        self._by = config["select"] if method.trains else LAST
        self._budget = config["rst_density"] if config["rst"] else 0.0
        self._selected_path = path.with_name(FILE)

    def keep(self, history: Sequence[Row]) -> None:
        """Set the weights aside if the last epoch of `history` is the one to choose so far.

        Raises:
            StorageError: The file cannot be written.
        """
        chooses = self._by != LAST
        if chooses and parallel.rank() == 0 and self.chosen(history) == len(history) - 1:
            self._artifact(history).save(self._selected_path)

    def finish(self, history: Sequence[Row]) -> Artifact:
        """Write the artifact of the chosen epoch, with the metrics of all, and return it.

        Raises:
            FormatError: What was set aside is damaged, or of another epoch.
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
            # Images may have moved since: what is remembered of them is this run's.
            artifact = replace(selected, metrics=artifact.metrics, optional=artifact.optional)
        parallel.wait()  # until every process has read it
        if parallel.rank() == 0:
            artifact.save(self._path)
            with storage_errors(self._selected_path):
                self._selected_path.unlink(missing_ok=True)
            _log.info("wrote %s, %d bytes", self._path, self._path.stat().st_size)
        return artifact

    def chosen(self, history: Sequence[Row]) -> int:
        """Return the position of the epoch whose weights are to be saved."""
        return choose(history, self._by, self._budget)

    def _artifact(self, history: Sequence[Row]) -> Artifact:
        """Return the weights as they are now, with the metrics of all epochs so far."""
        deployed, facts, tested = self._method.deploy(), self._facts, self._tested
        chosen = None if self._by == LAST else (self._by, self.chosen(history))
        return Artifact.of(
            self._base,
            self._reference,
            deployed.encoder,
            deployed.head,
            task=facts.task,
            method=facts.method,
            preprocess=facts.preprocess,
            prompts=facts.prompts,
            config=facts.config,
            seed=facts.seed,
            metrics=metrics(history, tested.held_out, tested.images, tested.digests, chosen),
            tokens=deployed.tokens,
            teachers=facts.teachers,
            architecture=facts.architecture,
            optional=facts.optional,
        )


def choose(history: Sequence[Row], by: str, budget: float = 0.0) -> int:
    """Return the position of the epoch whose weights are to be saved.

    Args:
        history: One row per epoch.
        by: One of `adapt.settings.selectors.names()`.
        budget: Above 0: only epochs of at most this density count, from the middle of a run on all;
            while there is none, it is the last.
    """
    within = [i for i, row in enumerate(history) if not budget or row["density"] <= budget]
    if by == LAST or not within:
        return len(history) - 1
    return within[selection.choose([history[i] for i in within], by)]
