"""State shared by the sessions of a pool: base weights and encoder passes."""

from __future__ import annotations

from collections.abc import Hashable

from runtime.bundles.bundle import Bundle
from runtime.bundles.shared_weights import SharedWeights
from runtime.memory.form import Form
from runtime.memory.weights import Weights


class SharedBase:
    """The base weights, read once for each form that sessions use."""

    def __init__(self, bundle: Bundle) -> None:
        """Read nothing yet."""
        self._bundle = bundle
        self._shared: dict[Form, SharedWeights] = {}

    def read(self, form: Form) -> Weights:
        """Return weights for one session; pages that it does not change are shared.

        Args:
            form: How the tensors shall lie in memory.

        Raises:
            FormatError: The bundle's file is missing or damaged.
            StorageError: There is no room for the weights.
        """
        if form not in self._shared:
            self._shared[form] = self._bundle.shared_weights(form)
        return self._shared[form].weights()

    def close(self) -> None:
        """Release the shared weights; those that were read stay valid."""
        for shared in self._shared.values():
            shared.close()


def encoding(bundle: Bundle, task: str) -> Hashable:
    """Return a value that is equal for tasks that surely share an encoder pass.

    Raises:
        TaskError: The bundle has no such task.
    """
    entry = bundle.entry(task)
    if entry.changed or bundle.manifest.encoder(entry).tokens:
        return task
    return entry.encoder, bundle.preprocess(task)
