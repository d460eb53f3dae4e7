"""An encoder over weights that all encoders share, and its own tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.backends.base import Backend, Constants, Engine
from runtime.bundles.manifest import Encoder
from runtime.bundles.task import token_type
from runtime.cuda.arena import Arena, Tensors
from runtime.cuda.device import CudaDevice
from runtime.errors import FormatError
from runtime.spec import Precision


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
        _check_names(self._views, weights)
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


class DeviceEncoder:
    """An encoder, and room on the device for the tokens of one task."""

    def __init__(self, engine: Engine, content: Encoder) -> None:
        """Make no room yet; `bind` does."""
        self.engine, self._content = engine, content
        self.names = tuple(content.tokens)
        self._tokens: Tensors | None = None

    def bind(self, device: CudaDevice, arena: Arena, precision: Precision) -> None:
        """Bind all inputs but the pixels.

        Raises:
            FormatError: Tokens have the name of another input.
            BackendError: The graph has other inputs, or the device cannot take them.
        """
        _check_names(self.names, arena)
        self.engine.bind(arena)
        zeros: dict[str, NDArray[Any]] = {
            name: np.zeros(shape, token_type(precision))
            for name, shape in self._content.tokens.items()
        }
        self._tokens = self.upload(device, zeros)
        if self._tokens is not None:
            self.engine.bind(self._tokens)

    def upload(self, device: CudaDevice, tokens: Mapping[str, NDArray[Any]]) -> Tensors | None:
        """Return a task's tokens on the device; None if the encoder takes none.

        Raises:
            BackendError: There is no room.
        """
        return Tensors(device, {name: tokens[name] for name in self.names}) if self.names else None

    def put(self, tokens: Tensors) -> None:
        """Make tokens those of a task, in the order of the stream.

        Raises:
            BackendError: The device takes no work.
        """
        assert self._tokens is not None
        self._tokens.copy_from(tokens)


def _check_names(tokens: Iterable[str], weights: Constants) -> None:
    taken = sorted({"pixels", *weights.handles}.intersection(tokens))
    if taken:
        raise FormatError(f"tokens cannot be called '{taken[0]}'; export the bundle again")
