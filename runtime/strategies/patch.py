"""One set of weights in memory, which a task's sparse patch changes in place; the default.

All engines of the bundle read these weights, so a switch opens nothing and moves only what the old
and the new task changed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.backends.base import Backend, Constants
from runtime.bundles.bundle import Bundle
from runtime.bundles.task import Task
from runtime.errors import BackendError
from runtime.frames.preprocess import preprocess_batch
from runtime.memory.scatter import ResidentPatch, patch_nbytes
from runtime.memory.weights import Weights
from runtime.spec import Preprocess, TensorSpec
from runtime.storage.digest import tensors_sha256
from runtime.strategies.base import LoadedTask
from runtime.strategies.device import DeviceStrategy
from runtime.strategies.encoder import EncoderEngine
from runtime.strategies.heads import Heads
from runtime.strategies.pixels import Frames, Pixels
from runtime.workers import Job


@dataclass(frozen=True, eq=False)
class PatchTask(LoadedTask):
    """A task as a patch over the weights."""

    encoder: str
    """SHA-256 of its encoder graph, the one that is not blocked."""
    tokens: NDArray[Any]
    """All its tokens in one array, as `EncoderEngine.put` takes them."""
    head: str
    """SHA-256 of its head graph."""
    head_tensors: Mapping[str, NDArray[np.float32]]
    patch: ResidentPatch


class PatchStrategy:
    """Every encoder and head of a bundle, opened, and the patch of one task over their weights.

    All are opened with the bundle, so that no switch ever waits for an engine. The encoders share
    the weights: a further one costs its graph and what it computes in between. Session has the
    lock; `prepare` alone is thread-safe.
    """

    def __init__(self, backend: Backend) -> None:
        """Start empty; `open` makes useful ones."""
        self.backend = backend
        self.encoders: dict[str, EncoderEngine] = {}
        """By the digest of the graph that is not blocked."""
        self.heads = Heads()
        self.weights: Weights
        self._placed: Constants | None = None

    @classmethod
    def open(
        cls,
        bundle: Bundle,
        backend: Backend,
        blocked: bool,
        read: Callable[[int], Weights] | None = None,
    ) -> PatchStrategy | DeviceStrategy:
        """Read the base weights and open every engine.

        A backend whose engines run on a device gets the strategy that holds the weights there.

        Args:
            bundle: Whose.
            backend: With what.
            blocked: Take the encoders over blocked filters where there are some.
            read: Gives the base weights, checked, maybe with filters in blocks of so many channels
                already; None reads the bundle's file.

        Raises:
            FormatError: The bundle is damaged.
            BackendError: The backend or the device cannot be used here.
        """
        if backend.cuda is not None:
            return DeviceStrategy.open(bundle, backend, backend.cuda, read)
        strategy, manifest = cls(backend), bundle.manifest
        # A manifest has blocked graphs for all encoders or for none: they share the filters.
        there = blocked and all(encoder.blocked is not None for encoder in manifest.encoders)
        block = backend.block if there else 1
        reading = Job(lambda: read(block) if read else bundle.weights())
        try:
            reading.start()
            for encoder in manifest.encoders:
                ref = encoder.blocked if block > 1 else None
                engine = backend.open(bundle.graph(ref or encoder.graph))
                strategy.encoders[encoder.graph.sha256] = EncoderEngine(
                    engine, encoder, manifest.precision
                )
            strategy.weights = reading.take()
            strategy.weights.lay_out(block)
            strategy._placed = backend.place(strategy.weights.views())
            for opened in strategy.encoders.values():
                opened.bind(backend, strategy._placed)
            strategy.heads.open(bundle, backend)
        except BaseException:
            reading.abandon()
            strategy.close()
            raise
        return strategy

    @property
    def layout(self) -> Mapping[str, TensorSpec]:
        """The base's deploy tensors by name."""
        return self.weights.layout

    @property
    def form(self) -> Hashable:
        """The order in which the weights lie: a patch is made for it."""
        return self.weights.block

    @property
    def closed(self) -> bool:
        """Whether there are no engines any more."""
        return self._placed is None

    def prepare(self, task: Task, preprocess: Preprocess) -> PatchTask:
        """Return a task with its patch as the weights take it, and the way back.

        Raises:
            FormatError: The task does not fit the base, the encoder or the head.
        """
        self.heads.check(task)
        tokens = self.encoders[task.encoder].flat(task.tokens)
        patch = self.weights.prepare(task.patch)
        # A patch is its task's own; without one, the tokens alone tell two encoders apart.
        state = object() if patch else sha256(tokens.tobytes()).digest()
        heads = sum(array.nbytes for array in task.head_tensors.values())
        return PatchTask(
            info=task.info,
            preprocess=preprocess,
            nbytes=patch_nbytes(patch) + tokens.nbytes + heads,
            share=(task.encoder, state, preprocess),
            encoder=task.encoder,
            tokens=tokens,
            head=task.head,
            head_tensors=dict(task.head_tensors),
            patch=patch,
        )

    def switch(self, new: PatchTask | None) -> None:
        """Restore the base and write a task's weights and tokens, in place.

        Args:
            new: The task to come; None is the bare base.

        Raises:
            BackendError: The engines are closed.
        """
        if self._placed is None:
            raise BackendError("the engines are closed; open a new session")
        self.weights.apply(() if new is None else new.patch)
        if new is not None and new.tokens.size:
            self.encoders[new.encoder].put(new.tokens)

    def pixels(self, frames: Sequence[NDArray[np.uint8]], spec: Preprocess) -> Pixels:
        """Return at least one frame as `features` takes them.

        Raises:
            DataError: A frame is no RGB image, or too narrow to crop.
        """
        return preprocess_batch(frames, spec)

    def features(self, loaded: PatchTask, pixels: Pixels) -> NDArray[np.float32]:
        """Return features (N, D) for pixels (N, S, S, 3) under the task that was switched to.

        Raises:
            BackendError: The engine failed.
        """
        assert not isinstance(pixels, Frames)
        return self.encoders[loaded.encoder].engine.run({"pixels": pixels})

    def logits(self, loaded: PatchTask, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the logits (N, K) of a task for features (N, D).

        Raises:
            FormatError: The logits are not finite, or not one per class.
            BackendError: The engine failed.
        """
        return self.heads.logits(loaded, loaded.head, loaded.head_tensors, features)

    def base_sha256(self) -> str:
        """Return the digest of the base as it is in memory; takes the patch off."""
        self.weights.apply(())
        return tensors_sha256(self.weights.originals())

    def close(self) -> None:
        """Release everything. Closing twice is harmless."""
        # The tables stay: a task that another thread is preparing still looks things up.
        for encoder in self.encoders.values():
            encoder.close()
        self.heads.close()
        if self._placed is not None:
            self._placed.close()
        self._placed = None
