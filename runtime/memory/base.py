"""The interface of memory in which engines read weights, tokens, heads and frames."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from runtime.cuda.base import DeviceArray
from runtime.models import Preprocess, TensorSpec
from runtime.patch import Patch

if TYPE_CHECKING:
    from runtime.memory.weights import Weights

Arrays = Mapping[str, NDArray[Any]]
"""Arrays of the host."""
Inputs = Mapping[str, "NDArray[Any] | DeviceArray"]
"""Inputs of engines by name: arrays of the host, or tensors on the device."""


@dataclass(frozen=True, eq=False)
class Frames:
    """Checked frames that a device will resize."""

    frames: tuple[NDArray[np.uint8], ...]
    spec: Preprocess


Pixels = NDArray[np.uint8] | Frames
"""Pixels (N, S, S, 3), or frames to be resized to them."""
P = TypeVar("P")
"""The form of pixels before an engine reads them."""


class PlacedPatch(Protocol):
    """A patch in the form in which a switch writes it."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""

    def close(self) -> None:
        """Free the memory. Safe to call more than once."""


class PlacedWeights(Protocol):
    """The base at fixed addresses, which engines bind, and at most one patch over it.

    Any thread may call `prepare`; for all else Session holds a lock.
    """

    layout: dict[str, TensorSpec]
    """The tensors by name."""

    @property
    def handles(self) -> Inputs:
        """Each tensor as engines bind it; its values change with the patch."""

    @property
    def form(self) -> Hashable:
        """Weights of one base and equal forms take each other's patches."""

    def prepare(self, patch: Patch) -> PlacedPatch | None:
        """Return a patch as `apply` takes it; None if it changes nothing.

        Raises:
            FormatError: The patch does not fit these weights.
            BackendError: There is no room for it.
        """

    def apply(self, patch: Any) -> None:
        """Make the weights those of one patch: restore the base, then write the patch's values.

        If this is interrupted or fails, the weights are invalid until it is called again.

        Args:
            patch: Patch that `prepare` returned; None for the bare base.

        Raises:
            BackendError: The device takes no new values.
        """

    def sha256(self) -> str:
        """Return the digest of the base in memory; removes the patch."""


class Tensors(Protocol):
    """A few small arrays at fixed addresses: the tokens of an encoder, or a task's head."""

    nbytes: int
    """Bytes of memory."""
    handles: Inputs
    """Arrays by name in the form that engines take."""

    def copy_from(self, other: Any) -> None:
        """Copy the values of tensors of the same names, types and shapes.

        Raises:
            BackendError: The device takes no work.
        """

    def close(self) -> None:
        """Free the memory. Safe to call more than once."""


class Memory(Protocol[P]):
    """Memory from which the engines of a backend read their inputs."""

    def weights(self, base: Weights, again: Callable[[], Weights]) -> PlacedWeights:
        """Return base weights as engines bind them.

        Args:
            base: Base weights; the memory owns or copies them.
            again: Function that reads them again if those in memory are lost.

        Raises:
            BackendError: There is no room for them.
        """

    def tensors(self, arrays: Arrays) -> Tensors:
        """Return a copy of arrays, all of one type, as engines take them. Thread-safe.

        Raises:
            BackendError: There is no room for them.
        """

    def pixels(self, frames: Sequence[NDArray[np.uint8]], spec: Preprocess) -> P:
        """Return at least one frame as `ready` takes it. Thread-safe.

        Args:
            frames: Frames (H, W, 3), uint8, RGB.
            spec: Preprocessing of the encoder.

        Raises:
            DataError: A frame is not an RGB image, or too narrow to crop.
        """

    def ready(self, pixels: P) -> NDArray[np.uint8] | DeviceArray:
        """Return pixels as an engine takes them, good until the next call. One caller at a time.

        Args:
            pixels: Result of `pixels`, or an array (N, S, S, 3), contiguous.

        Raises:
            BackendError: The device failed.
        """

    def close(self) -> None:
        """Free all memory, and release the device if there is one. Safe to call more than once."""
