"""Device memory at constant addresses for an engine's inputs and outputs.

A CUDA graph holds addresses, and it is worth its memory only while they stay. So whatever comes
from elsewhere is copied to one place for each input, with room for the largest that may come.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.backends.base import Inputs
from runtime.cuda.base import Buffer, Device, DeviceArray, Mailbox

_ALIGNED = 256
"""Alignment in bytes that TensorRT requires of every address."""


class Places:
    """The memory of one engine. One caller at a time."""

    def __init__(self, device: Device, room: Callable[[str], int]) -> None:
        """Start without memory.

        Args:
            device: Device to use.
            room: Returns the bytes to have for an input or output.
        """
        self._device, self._room = device, room
        self._mail: dict[str, Mailbox] = {}
        self._buffers: dict[str, Buffer] = {}
        self._held: dict[str, DeviceArray] = {}
        """The array that was last copied to each place."""

    def fixed(self, inputs: Inputs) -> dict[str, DeviceArray]:
        """Return inputs at their places; those on the device are copied when others come.

        Raises:
            BackendError: There is no room, or the device failed.
        """
        return {name: self._fixed(name, value) for name, value in inputs.items()}

    def batch(
        self, name: str, value: NDArray[Any] | DeviceArray, *, copy: bool = False
    ) -> DeviceArray:
        """Return frames as an aligned array on the device, filled when the stream gets there.

        Args:
            name: Name of the input.
            value: Frames, which are copied to their place unless they lie well on the device.
            copy: Whether to copy them even if they are aligned already.

        Raises:
            BackendError: There is no room, or the device failed.
        """
        if not isinstance(value, DeviceArray):
            return self._sent(name, value)
        if not copy and value.address % _ALIGNED == 0:
            return value
        return self._copied(name, value)

    def mailbox(self, name: str, nbytes: int) -> Mailbox:
        """Return the place of an array that is copied between host and device.

        Raises:
            BackendError: There is no room.
        """
        there = self._mail.get(name)
        if there is None or there.nbytes < nbytes:
            if there is not None:
                del self._mail[name]
                there.close()
            there = self._mail[name] = self._device.mailbox(max(nbytes, self._room(name)))
        return there

    def buffer(self, name: str, nbytes: int) -> Buffer:
        """Return the place of an array that stays on the device.

        Raises:
            BackendError: There is no room.
        """
        there = self._buffers.get(name)
        if there is None or there.nbytes < nbytes:
            self._held.pop(name, None)
            if there is not None:
                del self._buffers[name]
                there.close()
            there = self._buffers[name] = self._device.allocate(max(nbytes, self._room(name)))
        return there

    def posted(self, name: str, value: DeviceArray) -> Mailbox:
        """Return the place of an array that the stream copies to the host, for `taken`.

        The array stays where it is, so that what reads it there reads the same as ever.

        Raises:
            BackendError: There is no room, or the device failed.
        """
        mailbox = self.mailbox(name, value.nbytes)
        self._device.copy(value.address, mailbox.address, value.nbytes)
        mailbox.pull(value.nbytes)
        return mailbox

    def close(self) -> None:
        """Free all memory when the stream has passed it. Safe to call more than once."""
        for memory in (*self._mail.values(), *self._buffers.values()):
            memory.close()
        self._mail.clear()
        self._buffers.clear()
        self._held.clear()
        # It may be a method of what the library opened, which must go before the device does.
        self._room = lambda name: 0

    def _fixed(self, name: str, value: NDArray[Any] | DeviceArray) -> DeviceArray:
        if not isinstance(value, DeviceArray):
            return self._sent(name, value)
        if self._held.get(name) is value:  # the very object: addresses are given again
            return DeviceArray(self._buffers[name].address, value.dtype, value.shape)
        self._held.pop(name, None)  # first: an interrupted copy may have taken place
        there = self._copied(name, value)
        self._held[name] = value
        return there

    def _copied(self, name: str, value: DeviceArray) -> DeviceArray:
        address = self.buffer(name, value.nbytes).address
        self._device.copy(value.address, address, value.nbytes)
        return DeviceArray(address, value.dtype, value.shape)

    def _sent(self, name: str, value: NDArray[Any]) -> DeviceArray:
        mailbox = self.mailbox(name, value.nbytes)
        # The run before has ended, so nothing reads the mailbox any more.
        np.copyto(mailbox.host[: value.nbytes].view(value.dtype).reshape(value.shape), value)
        mailbox.push(value.nbytes)
        return DeviceArray(mailbox.address, value.dtype.name, value.shape)


def taken(mailbox: Mailbox, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return a copy of the float32 array in a mailbox, once the stream has brought it."""
    nbytes = 4 * math.prod(shape)
    return mailbox.host[:nbytes].view(np.float32).reshape(shape).copy()
