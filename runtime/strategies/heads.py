"""The opened heads of a bundle, which turn features into logits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from runtime.backends.base import Backend, Engine, Inputs
from runtime.bundles.bundle import Bundle
from runtime.bundles.task import Task
from runtime.bundles.task_checks import check_head_names
from runtime.cuda.base import DeviceArray
from runtime.strategies.base import LoadedTask, checked


class Heads:
    """An engine per head graph; a task brings the tensors. One caller of `logits` at a time."""

    def __init__(self) -> None:
        """Start empty; `open` fills it."""
        self._engines: dict[str, Engine] = {}

    def open(self, bundle: Bundle, backend: Backend) -> None:
        """Open every head of a bundle.

        Raises:
            FormatError: The bundle is damaged.
            BackendError: The backend or the device cannot be used here.
        """
        for head in bundle.manifest.heads:
            content = bundle.graph(head.graph)
            self._engines[head.graph.sha256] = backend.open(content, small=True)

    def check(self, task: Task) -> None:
        """Check that a task brings the tensors of its head; the bundle has checked the shapes.

        Raises:
            FormatError: Names differ.
        """
        check_head_names(task, self._engines[task.head].inputs - {"features"})

    def logits(
        self,
        loaded: LoadedTask,
        head: str,
        tensors: Inputs,
        features: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """Return logits (N, K) for features (N, D).

        Args:
            loaded: Task to use the head of.
            head: SHA-256 of the head's graph.
            tensors: Head tensors of the task.
            features: Features from the encoder.

        Raises:
            FormatError: The logits are not finite, or not one per class.
            BackendError: The engine failed.
        """
        result = self._engines[head].run({"features": features, **tensors})
        return checked(loaded, len(features), result)

    def infer(
        self,
        loaded: LoadedTask,
        head: str,
        tensors: Inputs,
        encoder: Engine,
        pixels: NDArray[np.uint8] | DeviceArray,
    ) -> NDArray[np.float32]:
        """Return logits (N, K) for pixels (N, S, S, 3); `encoder` computes the features.

        Raises:
            FormatError: The logits are not finite, or not one per class.
            BackendError: An engine failed.
        """
        result = encoder.run_with_head({"pixels": pixels}, self._engines[head], tensors)
        return checked(loaded, pixels.shape[0], result)

    def close(self) -> None:
        """Release the engines. Safe to call more than once."""
        # The table stays: a task that another thread is preparing still looks things up.
        for engine in self._engines.values():
            engine.close()
