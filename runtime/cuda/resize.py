"""Pillow's antialiased resize on the device, bit for bit.

A frame of any size goes up once, cut to what the result is made of; two integer passes, with
Pillow's own weights, make the pixels that an encoder reads. Nothing comes back.
"""

from __future__ import annotations

import ctypes
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray

from runtime.cuda.base import DeviceArray
from runtime.cuda.device import CudaDevice
from runtime.cuda.events import CudaEvent
from runtime.cuda.kernel import THREADS, Call
from runtime.cuda.memory import CudaBuffer, CudaMailbox
from runtime.frames.filters import kept_weights
from runtime.frames.preprocess import geometry
from runtime.models import Preprocess

_PLANS = 16
"""Frame sizes whose weights are kept."""
_CALLS = 64
"""Pairs of addresses for which a plan keeps its calls: a frame's place in a batch."""
_STAGED = 1 << 26
"""Most bytes of frames that are staged on the host; more in one call wait for the stream."""
_BATCH = 32
"""Frames that a session computes at once, at most, where it chooses."""
_TALL_FIRST = int(PIL.__version__.split(".")[0]) >= 13
"""Whether Pillow filters the columns first if a frame loses much more height than width."""


@dataclass(frozen=True, eq=False)
class _Pass:
    """One filter over one axis, ready but for its addresses."""

    first: int
    """Address of the first inputs, and right behind them of the weights."""
    outer: int
    length: int
    count: int
    taps: int
    inner: int

    @property
    def nbytes(self) -> int:
        """Bytes of its result."""
        return self.outer * self.count * self.inner

    def call(self, kernel: Any, source: int, target: int) -> Call:
        """Return it with its addresses."""
        weights = self.first + 4 * self.count
        addresses = (ctypes.c_uint64(each) for each in (source, target, self.first, weights))
        numbers = (self.outer, self.length, self.count, self.taps, self.inner)
        blocks = -(-self.nbytes // THREADS)
        return Call(kernel, blocks, *addresses, *(ctypes.c_uint32(each) for each in numbers))


@dataclass(frozen=True, eq=False)
class _Plan:
    """How frames of one size become pixels."""

    region: tuple[slice, slice]
    """The rows and columns that matter."""
    passes: tuple[_Pass, _Pass]
    weights: CudaBuffer
    calls: dict[tuple[int, int, int], tuple[Call, Call]] = field(default_factory=dict)
    """Both passes by the addresses that they were last used with."""

    def launch(self, device: CudaDevice, source: int, middle: int, target: int) -> None:
        """Put both passes onto the stream."""
        key = (source, middle, target)
        if key not in self.calls:
            if len(self.calls) >= _CALLS:
                self.calls.clear()
            first, second = self.passes
            kernel = device.kernels.resize
            self.calls[key] = (
                first.call(kernel, source, middle),
                second.call(kernel, middle, target),
            )
        for each in self.calls[key]:
            each.launch(device.stream)


class DeviceResizer:
    """Resizes frames to an encoder's input. One caller at a time."""

    def __init__(self, device: CudaDevice) -> None:
        """Start without memory; the first frames allocate it."""
        self._device = device
        self.batch = _BATCH
        """Frames for whose pixels there is room from the first call on."""
        self._plans: OrderedDict[tuple[int, int, Preprocess], _Plan] = OrderedDict()
        self._staged: CudaMailbox | None = None
        self._uploaded: CudaEvent | None = None
        self._marked = False
        """Whether `_uploaded` stands behind the last upload."""
        self._middle: CudaBuffer | None = None
        self._pixels: CudaBuffer | None = None

    def __call__(self, frames: Sequence[NDArray[np.uint8]], spec: Preprocess) -> DeviceArray:
        """Queue the resizing of frames on the stream, and return the array that it fills.

        Args:
            frames: Each (H, W, 3) uint8, RGB, of any size and any strides; they are read before
                this returns.
            spec: Preprocessing of the encoder.

        Returns:
            (N, S, S, 3) uint8, good until the next call.

        Raises:
            DataError: A frame is too narrow to crop.
            BackendError: There is no room on the device, or the driver reports an error.
        """
        jobs = [(self._plan(frame.shape[1], frame.shape[0], spec), frame) for frame in frames]
        sizes = [frame[plan.region].size for plan, frame in jobs]
        size, room = spec.size, max(*sizes, min(sum(sizes), _STAGED))
        if self._staged is None or self._staged.nbytes < room:
            # First nobody knows it any more, then it is closed: in between may come an exception.
            smaller, self._staged = self._staged, None
            if smaller is not None:
                smaller.close()
            self._staged = self._device.mailbox(room, copied=True)
        middle, nbytes = self._middle, max(plan.passes[0].nbytes for plan, _ in jobs)
        if middle is None or middle.nbytes < nbytes:
            self._middle = self._device.allocate(nbytes)
            if middle is not None:
                middle.close()
        # At once for the largest batch: CUDA graphs hold the address, which had better stay.
        pixels, nbytes = self._pixels, max(len(frames), self.batch) * size * size * 3
        if pixels is None or pixels.nbytes < nbytes:
            self._pixels = self._device.allocate(nbytes)
            if pixels is not None:
                pixels.close()
        assert self._middle is not None and self._pixels is not None
        target = self._pixels.address
        while jobs:
            self._wait_for_upload()
            count, end = 0, 0
            for plan, frame in jobs:
                region = frame[plan.region]
                if end + region.size > self._staged.nbytes:
                    break
                staged = self._staged.host[end : end + region.size]
                np.copyto(staged.reshape(region.shape), region)
                count, end = count + 1, end + region.size
            self._push(end)
            source = self._staged.address
            for plan, frame in jobs[:count]:
                plan.launch(self._device, source, self._middle.address, target)
                source += frame[plan.region].size
                target += plan.passes[1].nbytes
            jobs = jobs[count:]
        # Not before: one call may bring frames of more sizes.
        while len(self._plans) > _PLANS:
            self._plans.popitem(last=False)[1].weights.close()
        return DeviceArray(self._pixels.address, "uint8", (len(frames), size, size, 3))

    def close(self) -> None:
        """Free the memory. Safe to call more than once."""
        for plan in self._plans.values():
            plan.weights.close()
        self._plans.clear()
        for memory in (self._staged, self._middle, self._pixels):
            if memory is not None:
                memory.close()
        self._staged = self._middle = self._pixels = None
        if self._uploaded is not None:
            self._uploaded.close()
        self._uploaded = None

    def _push(self, nbytes: int) -> None:
        """Send what is staged, and mark where the stream has read it."""
        assert self._staged is not None
        if self._uploaded is None:
            self._uploaded = self._device.event()
        self._marked = False
        self._staged.push(nbytes)
        self._uploaded.record()
        self._marked = True

    def _wait_for_upload(self) -> None:
        """Wait until what was staged before has been read, not for what came behind it."""
        if self._marked and self._uploaded is not None:
            self._device.activate()
            self._uploaded.wait()
        else:
            self._device.synchronize()

    def _plan(self, width: int, height: int, spec: Preprocess) -> _Plan:
        key = (width, height, spec)
        if key in self._plans:
            self._plans.move_to_end(key)
            return self._plans[key]
        (wide, high), (left, top, right, bottom) = geometry(width, height, spec)
        x = kept_weights(width, wide, slice(left, right), spec.interpolation)
        y = kept_weights(height, high, slice(top, bottom), spec.interpolation)
        tables = [np.concatenate([first, weights.reshape(-1)]) for _, first, weights in (x, y)]
        packed = np.concatenate(tables).astype(np.int32)
        buffer = self._device.allocate(packed.nbytes)
        self._device.upload(packed, buffer.address)
        across, down = x[0].stop - x[0].start, y[0].stop - y[0].start
        taps_x, taps_y, size = x[2].shape[1], y[2].shape[1], spec.size
        at_x, at_y = buffer.address, buffer.address + 4 * tables[0].size
        if _TALL_FIRST and height > high and height - high > 2 * (width - wide):
            passes = (
                _Pass(at_y, 1, down, size, taps_y, 3 * across),
                _Pass(at_x, size, across, size, taps_x, 3),
            )
        else:
            passes = (
                _Pass(at_x, down, across, size, taps_x, 3),
                _Pass(at_y, 1, down, size, taps_y, 3 * size),
            )
        plan = self._plans[key] = _Plan((y[0], x[0]), passes, buffer)
        return plan
