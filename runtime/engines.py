"""The engines of a bundle, all bound to one set of weights in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from runtime.backends.base import Backend, Constants, Engine
from runtime.bundle import Bundle
from runtime.errors import BackendError, FormatError
from runtime.manifest import Encoder
from runtime.spec import Precision
from runtime.task import token_type
from runtime.weights import Weights

if TYPE_CHECKING:
    from runtime.residents import Resident


class EncoderEngine:
    """An encoder with room for the tokens of one task, at one address like the weights."""

    def __init__(self, engine: Engine, content: Encoder, precision: Precision) -> None:
        """Make room; `bind` fills it with zeros."""
        self.engine = engine
        sizes = {name: shape[0] * shape[1] for name, shape in content.tokens.items()}
        self._flat = np.zeros(sum(sizes.values()), token_type(precision))
        parts = np.split(self._flat, np.cumsum(list(sizes.values())))
        self._views = {
            name: part.reshape(shape)
            for (name, shape), part in zip(content.tokens.items(), parts, strict=False)
        }
        self._tokens: Constants | None = None

    def bind(self, backend: Backend, weights: Constants) -> None:
        """Bind all inputs but the pixels.

        Raises:
            FormatError: Tokens have the name of another input.
            BackendError: The graph has other inputs, or the device cannot take them.
        """
        taken = sorted({"pixels", *weights.handles} & self._views.keys())
        if taken:
            raise FormatError(f"tokens cannot be called '{taken[0]}'; export the bundle again")
        self.engine.bind(weights)
        if self._views:
            self._tokens = backend.place(self._views)
            self.engine.bind(self._tokens)

    def flat(self, tokens: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
        """Return a task's tokens, checked by the bundle, as `put` takes them."""
        return np.concatenate([self._flat[:0], *(tokens[name].reshape(-1) for name in self._views)])

    def put(self, tokens: NDArray[Any]) -> None:
        """Write a task's tokens, in place.

        Raises:
            BackendError: The device cannot take them.
        """
        if self._tokens is not None:
            np.copyto(self._flat, tokens)
            self._tokens.updated(self._views)

    def close(self) -> None:
        """Release engine and tokens."""
        self.engine.close()
        if self._tokens is not None:
            self._tokens.close()


class Engines:
    """Every encoder and head of a bundle, opened. Not thread-safe; Session has the lock.

    All are opened with the bundle, so that no switch ever waits for an engine. The encoders share
    the weights: a further one costs its graph and what it computes in between.
    """

    def __init__(self, backend: Backend) -> None:
        """Start empty; `open` makes useful ones."""
        self.backend = backend
        self.encoders: dict[str, EncoderEngine] = {}
        """By the digest of the graph that is not blocked."""
        self.heads: dict[str, Engine] = {}
        """By digest."""
        self.weights: Weights
        self._placed: Constants | None = None

    @classmethod
    def open(cls, bundle: Bundle, backend: Backend, blocked: bool) -> Engines:
        """Read the base weights and open every engine.

        Args:
            bundle: Whose.
            backend: With what.
            blocked: Take the encoders over blocked filters where there are some.

        Raises:
            FormatError: The bundle is damaged.
            BackendError: The backend or the device cannot be used here.
        """
        engines, manifest = cls(backend), bundle.manifest
        # A manifest has blocked graphs for all encoders or for none: they share the filters.
        there = blocked and all(encoder.blocked is not None for encoder in manifest.encoders)
        block = backend.block if there else 1
        try:
            with ThreadPoolExecutor(max_workers=1) as pool:
                reading = pool.submit(bundle.weights)
                for encoder in manifest.encoders:
                    ref = encoder.blocked if block > 1 else None
                    engine = backend.open(bundle.graph(ref or encoder.graph))
                    engines.encoders[encoder.graph.sha256] = EncoderEngine(
                        engine, encoder, manifest.precision
                    )
                engines.weights = reading.result()
            engines.weights.lay_out(block)
            engines._placed = backend.place(engines.weights.views())
            for opened in engines.encoders.values():
                opened.bind(backend, engines._placed)
            for head in manifest.heads:
                content = bundle.graph(head.graph)
                engines.heads[head.graph.sha256] = backend.open(content, small=True)
        except BaseException:
            engines.close()
            raise
        return engines

    def switch(self, new: Resident | None, old: Resident | None) -> None:
        """Make weights and tokens those of `new`, in place; None is the bare base.

        Args:
            new: The task to come.
            old: The task that is there.

        Raises:
            BackendError: The device takes no new values; those of `old` are back, or, where it
                takes these no more either, everything is closed.
        """
        placed = self._placed
        if placed is None:
            raise BackendError("the engines are closed; open a new session")
        try:
            self._write(placed, new, old)
        except BaseException as first:
            try:
                self._write(placed, old, new)
            except BaseException as second:
                self.close()  # nobody knows what the device holds
                if not isinstance(second, Exception):
                    raise
                raise BackendError(
                    f"the device took no new weights ({first}) and not the former ones either "
                    f"({second}); the session is closed, open a new one"
                ) from second
            raise

    @property
    def closed(self) -> bool:
        """Whether there are no engines any more."""
        return self._placed is None

    def run(self, task: Resident, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the logits (N, K) of the task that was switched to, for pixels (N, S, S, 3).

        Raises:
            FormatError: The logits are not finite, or not one per class.
            BackendError: An engine failed.
        """
        features = self.encoders[task.encoder].engine.run({"pixels": pixels})
        logits = self.heads[task.head].run({"features": features, **task.head_tensors})
        name, classes = task.info.id, len(task.info.classes)
        if logits.shape != (len(pixels), classes):
            raise FormatError(
                f"task '{name}' has {classes} classes, its head returned shape {logits.shape}; "
                "export the bundle again"
            )
        if not np.isfinite(logits).all():
            raise FormatError(
                f"task '{name}' gives values that are not finite; export it again, with "
                "--precision fp32 if it was fp16"
            )
        return logits

    def close(self) -> None:
        """Release everything. Closing twice is harmless."""
        for encoder in self.encoders.values():
            encoder.close()
        for head in self.heads.values():
            head.close()
        self.encoders.clear()
        self.heads.clear()
        if self._placed is not None:
            self._placed.close()
            self._placed = None

    def _write(self, placed: Constants, new: Resident | None, old: Resident | None) -> None:
        assert self._placed is not None
        self.weights.apply(() if new is None else new.patch)
        names: Iterable[str] = () if new is None else new.tensors
        if old is not None:
            names = dict.fromkeys((*names, *old.tensors))
        placed.updated(names)
        if new is not None:
            self.encoders[new.encoder].put(new.tokens)
