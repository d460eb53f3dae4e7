"""Registry of strategies for holding tasks; a new one is a file here and a line in the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from runtime.errors import BackendError
from runtime.lookup import imported

if TYPE_CHECKING:
    from runtime.backends.base import Backend
    from runtime.bundles.bundle import Bundle
    from runtime.memory.form import Form
    from runtime.memory.weights import Weights
    from runtime.strategies.base import Strategy


class Entry(NamedTuple):
    """A strategy as it is known before its module is imported."""

    path: str
    """Module and class of the strategy."""
    summary: str
    """How the strategy holds tasks, for help texts."""


STRATEGIES = {
    "engines": Entry(
        "runtime.strategies.engines:EnginesStrategy", "an engine with constant weights for each"
    ),
    "patch": Entry("runtime.strategies.patch:PatchStrategy", "changes of one base, in place"),
}

DEFAULT = "patch"
"""Strategy of whoever names none."""


def load(
    name: str,
    bundle: Bundle,
    backend: Backend,
    blocked: bool,
    read: Callable[[Form], Weights] | None = None,
) -> Strategy[Any]:
    """Return the strategy `name`, opened for a bundle.

    Args:
        name: Name of the strategy, a key of `STRATEGIES`.
        bundle: Bundle with the tasks to hold.
        backend: Backend to run on; its memory is closed with the strategy.
        blocked: Whether to use encoders with blocked filters where there are some.
        read: Function that returns the base weights in a form; None reads the file.

    Raises:
        BackendError: The name is unknown, or the backend or the device cannot be used here.
        FormatError: The bundle is damaged.
    """
    if name not in STRATEGIES:
        backend.memory.close()
        raise BackendError(f"unknown strategy '{name}'; available: {', '.join(sorted(STRATEGIES))}")
    kind = imported(STRATEGIES[name].path)
    strategy: Strategy[Any] = kind.open(bundle, backend, blocked, read)
    return strategy
