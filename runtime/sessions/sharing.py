"""State shared by the sessions of a pool: base weights and encoder passes."""

from __future__ import annotations

from collections.abc import Hashable

from runtime.bundles.bundle import Bundle
from runtime.bundles.shared_weights import SharedWeights
from runtime.memory.weights import Weights


class SharedBase:
    """The base weights, read once for each layout that sessions use."""

    def __init__(self, bundle: Bundle) -> None:
        """Read nothing yet."""
        self._bundle = bundle
        self._shared: dict[int, SharedWeights] = {}

    def read(self, block: int) -> Weights:
        """Return weights for one session; pages that it does not change are shared.

        Args:
            block: Number of channels in a block of the filters, see `Weights.lay_out`.

        Raises:
            FormatError: The bundle's file is missing or damaged.
            StorageError: There is no room for the weights.
        """
        if block not in self._shared:
            self._shared[block] = self._bundle.shared_weights(block)
        return self._shared[block].weights()

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
