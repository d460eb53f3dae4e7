"""Ways to hold many tasks, by name. A new one is one file here and one line in the table."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from runtime.backends.base import Backend
from runtime.bundles.bundle import Bundle
from runtime.errors import BackendError
from runtime.memory.weights import Weights
from runtime.strategies.base import Strategy

STRATEGIES = {
    "engines": "runtime.strategies.engines:EnginesStrategy",
    "patch": "runtime.strategies.patch:PatchStrategy",
}


def load(
    name: str,
    bundle: Bundle,
    backend: Backend,
    blocked: bool,
    read: Callable[[int], Weights] | None = None,
) -> Strategy[Any]:
    """Return the strategy `name`, opened for a bundle.

    Args:
        name: A key of `STRATEGIES`.
        bundle: Whose tasks it will hold.
        backend: With what; its memory is closed with the strategy.
        blocked: Take the encoders over blocked filters where there are some.
        read: Gives the base weights for a block size, shared with others; None reads the file.

    Raises:
        BackendError: The name is unknown, or the backend or the device cannot be used here.
        FormatError: The bundle is damaged.
    """
    if name not in STRATEGIES:
        backend.memory.close()
        raise BackendError(f"unknown strategy '{name}'; known are {', '.join(sorted(STRATEGIES))}")
    module, attribute = STRATEGIES[name].split(":")
    strategy: Strategy[Any] = getattr(import_module(module), attribute).open(
        bundle, backend, blocked, read
    )
    return strategy
