"""An encoder with weights shared by all encoders, and tokens of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.backends.base import Arrays, Backend, Engine
from runtime.bundles.constants import check_token_names
from runtime.bundles.entries import Encoder
from runtime.bundles.task import token_type
from runtime.memory.base import PlacedWeights, Tensors
from runtime.memory.bf16 import narrowed
from runtime.models import Precision


class EncoderEngine:
    """An encoder with room for the tokens of one task, at one address like the weights."""

    def __init__(self, engine: Engine, content: Encoder, backend: Backend) -> None:
        """Start unbound; `bind` allocates the tokens."""
        self.engine = engine
        self.names = tuple(content.tokens)
        """Names of the tokens."""
        self.content = content
        """The manifest's entry."""
        self._backend = backend
        self._tokens: Tensors | None = None

    def bind(self, weights: PlacedWeights, precision: Precision) -> None:
        """Bind all inputs but the pixels; the tokens are zeros until `put` is called.

        Raises:
            FormatError: Tokens have the name of another input.
            BackendError: The graph has other inputs, or the device cannot take them.
        """
        handles = weights.handles
        check_token_names(self.names, handles)
        self.engine.bind(handles)
        zeros: dict[str, NDArray[Any]] = {
            name: np.zeros(shape, token_type(precision))
            for name, shape in self.content.tokens.items()
        }
        self._tokens = self.upload(zeros)
        if self._tokens is not None:
            self.engine.bind(self._tokens.handles)

    def upload(self, tokens: Arrays) -> Tensors | None:
        """Return a task's tokens in the form that `put` takes; None without any.

        Raises:
            FormatError: Tokens of a bf16 bundle hold a value that is not a bfloat16 value.
            BackendError: There is no room.
        """
        if not self.names:
            return None
        values = {name: tokens[name] for name in self.names}
        if self._backend.bf16:
            values = {name: narrowed(each, f"tokens '{name}'") for name, each in values.items()}
        return self._backend.memory.tensors(values)

    def put(self, tokens: Tensors) -> None:
        """Replace the tokens by those of a task, in place.

        Raises:
            BackendError: The device takes no work.
        """
        if self._tokens is not None:
            self._tokens.copy_from(tokens)
