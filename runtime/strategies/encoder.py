"""An encoder over weights that all encoders share, and its own tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.backends.base import Backend, Constants, Engine
from runtime.errors import FormatError
from runtime.manifest import Encoder
from runtime.spec import Precision
from runtime.task import token_type


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
        """Write a task's tokens, in place."""
        np.copyto(self._flat, tokens)

    def close(self) -> None:
        """Release engine and tokens."""
        self.engine.close()
        if self._tokens is not None:
            self._tokens.close()
