"""The base weights in one piece of device memory, and at most one patch over them.

Engines bind the tensors' addresses once. A switch is two kernels on the stream: one writes back
what the old patch replaced, one writes the new patch's values and keeps what they replace. Nothing
is copied, and nobody waits: a frame that was put onto the stream before sees the old weights, one
that comes after sees the new ones. Since a patch is always written over the bare base, what it
replaces is the base, bit for bit, and need not be kept for every task.

Whether a launch that an exception interrupted took place, nobody knows, and so neither whether what
was kept is the base. Then all weights are copied to the device once more.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.cuda.base import DeviceArray
from runtime.cuda.device import CudaDevice
from runtime.cuda.kernel import Call
from runtime.cuda.memory import CudaBuffer
from runtime.cuda.pages import pack
from runtime.cuda.tensors import offsets_of
from runtime.models import TensorSpec
from runtime.mutex import Mutex
from runtime.patch import Patch
from runtime.storage.digest import tensors_sha256


class DevicePatch:
    """A patch on the device, with the calls that write it and take it off."""

    def __init__(self, buffer: CudaBuffer, patch: Call, undo: Call) -> None:
        """Take over what `Arena.prepare` made."""
        self._buffer, self.patch, self.undo = buffer, patch, undo

    @property
    def nbytes(self) -> int:
        """Bytes of device memory."""
        return self._buffer.nbytes

    def close(self) -> None:
        """Free the memory when the stream has passed it. Safe to call more than once."""
        self._buffer.close()


class Arena:
    """All weights of a bundle at fixed addresses.

    Any thread may call `prepare`; for all else Session holds a lock.
    """

    def __init__(
        self,
        device: CudaDevice,
        tensors: Mapping[str, NDArray[Any]],
        read: Callable[[], Mapping[str, NDArray[Any]]],
    ) -> None:
        """Copy the base to the device; the arrays are not kept.

        Args:
            device: Device to use.
            tensors: Contiguous arrays of 2- or 4-byte elements by name.
            read: Reads the same tensors once more.

        Raises:
            BackendError: There is no room for them.
        """
        self.layout = {
            name: TensorSpec(name, array.dtype.name, array.shape)  # type: ignore[arg-type]
            for name, array in tensors.items()
        }
        self._device = device
        self._offsets, total = offsets_of({name: spec.nbytes for name, spec in self.layout.items()})
        self._arena = device.allocate(total)
        self.handles: Mapping[str, Any] = {
            name: DeviceArray(self._arena.address + self._offsets[name], spec.dtype, spec.shape)
            for name, spec in self.layout.items()
        }
        """Each tensor as engines bind it."""
        for name, array in tensors.items():
            device.upload(array, self.handles[name].address)
        self._read = read
        self._applied: DevicePatch | None = None
        """The applied patch; the values that it replaced are in `_undo`."""
        self._known = True
        """Whether that is so."""
        self._undo = device.allocate(0)
        self._larger: CudaBuffer | None = None
        self._undo_address = ctypes.c_uint64(self._undo.address)
        """An argument of every call, which therefore follows when there is more room."""
        self._reserving = Mutex()

    @property
    def form(self) -> Hashable:
        """Nobody else's: what lies on the device is freed in the order of this one's stream."""
        return self

    @property
    def nbytes(self) -> int:
        """Bytes of device memory, those of the tasks not among them."""
        return self._arena.nbytes + self._undo.nbytes

    def prepare(self, patch: Patch) -> DevicePatch | None:
        """Bring a patch to the device; None if it changes nothing. Does not wait for frames.

        Raises:
            FormatError: The patch does not fit these weights.
            BackendError: There is no room on the device.
        """
        packed = pack(patch, self.layout, self._offsets)
        if not packed.pages.size:
            return None
        parts = [packed.pages.view(np.uint8), packed.values, packed.lows.view(np.uint8)]
        buffer = self._device.allocate(sum(part.nbytes for part in parts))
        try:
            self._device.upload(np.concatenate(parts), buffer.address)
            self._reserve(packed.values.nbytes)
        except BaseException:
            buffer.close()
            raise
        arena, pages = ctypes.c_uint64(self._arena.address), ctypes.c_uint64(buffer.address)
        values = ctypes.c_uint64(pages.value + parts[0].nbytes)
        lows = ctypes.c_uint64(values.value + parts[1].nbytes)
        undo, wide = self._undo_address, ctypes.c_uint32(packed.wide)
        kernels, blocks = self._device.kernels, packed.pages.size
        return DevicePatch(
            buffer,
            Call(kernels.patch, blocks, arena, pages, lows, values, undo, wide),
            Call(kernels.undo, blocks, arena, pages, lows, undo, wide),
        )

    def apply(self, patch: DevicePatch | None) -> None:
        """Make the weights those of one patch, in the order of the stream; None is the bare base.

        Args:
            patch: Patch that `prepare` of this object returned.

        Raises:
            BackendError: The driver reports an error. The weights are invalid until this is
                called again.
            UdaError: A former call was interrupted, and the base cannot be read once more.
        """
        self._device.activate()
        stream = self._device.stream
        if not self._known:
            self._restore()
        if self._applied is not None:
            self._applied.undo.launch(stream)  # if it is interrupted: once more does no harm
            self._applied = None
        if patch is None:
            return
        self._take_room()
        self._known = False
        patch.patch.launch(stream)
        self._applied = patch
        self._known = True

    def sha256(self) -> str:
        """Return the digest of the base as it is on the device; takes the patch off.

        Raises:
            BackendError: The driver reports an error.
        """
        self.apply(None)
        return tensors_sha256({name: self.read(name) for name in self.layout})

    def read(self, name: str) -> NDArray[Any]:
        """Return a copy of a tensor as it is on the device now.

        Raises:
            BackendError: The driver reports an error.
        """
        spec = self.layout[name]
        array = np.empty(spec.shape, spec.dtype)
        self._device.download(self.handles[name].address, array)
        return array

    def close(self) -> None:
        """Free the memory. Safe to call more than once."""
        for buffer in (self._arena, self._undo, self._larger):
            if buffer is not None:
                buffer.close()

    def _restore(self) -> None:
        """Copy the base to the device once more, when the stream has passed."""
        self._device.synchronize()
        tensors = self._read()
        for name, handle in self.handles.items():
            self._device.upload(tensors[name], handle.address)
        self._applied = None
        self._known = True

    def _take_room(self) -> None:
        """Use the room that was reserved last, if there is some."""
        with self._reserving:
            larger, former = self._larger, self._undo
            if larger is None:
                return
            self._undo_address.value = larger.address
            self._undo = larger
            self._larger = None  # last: an interrupted call may be followed by another
        if former is not larger:
            former.close()

    def _reserve(self, nbytes: int) -> None:
        """Have room for what a patch replaces, so that no switch ever allocates."""
        with self._reserving:
            there = self._larger or self._undo
            if there.nbytes < nbytes:
                former, self._larger = self._larger, self._device.allocate(nbytes)
                if former is not None:  # no switch has used it yet
                    former.close()
