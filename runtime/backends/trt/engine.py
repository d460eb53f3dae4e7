"""A TensorRT engine on the stream of a device."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.backends.base import Engine, FeaturesAndLogits, Inputs
from runtime.backends.places import Places, taken
from runtime.backends.trt.contexts import Activations
from runtime.backends.trt.cuda_graphs import RecordedRuns, Step
from runtime.backends.trt.library import trt
from runtime.backends.trt.plan import OpenedPlan
from runtime.backends.trt.profile import Profile
from runtime.backends.trt.tensors import Tensor
from runtime.cuda.base import Device, DeviceArray
from runtime.errors import BackendError


class TrtEngine:
    """An engine on the stream of a device."""

    def __init__(
        self,
        device: Device,
        runtime: trt.Runtime,
        plan: bytes,
        tensors: tuple[Tensor, ...],
        profile: Profile,
        activations: Activations | None = None,
    ) -> None:
        """Open a plan.

        Args:
            device: Device with the stream and memory to use.
            runtime: TensorRT runtime of that device.
            plan: Plan as the library wrote it.
            tensors: Expected inputs and outputs.
            profile: Profile that it was built with.
            activations: Memory to compute in, shared with other engines of the device's stream;
                None takes some for this engine alone.

        Raises:
            BackendError: The library cannot open it.
            FormatError: It takes or gives something else.
        """
        self._device = device
        self._own = Activations(device) if activations is None else None
        shared = activations or self._own
        assert shared is not None
        try:
            self._plan: OpenedPlan | None = OpenedPlan(
                device, runtime, plan, tensors, profile, shared
            )
        except BaseException:
            if self._own is not None:
                self._own.close()
            raise
        self.inputs = self._plan.inputs
        self._places = Places(device, self._plan.room)
        self._recorded = RecordedRuns(device)

    def bind(self, arrays: Inputs) -> None:
        """Bind inputs that stay at one address.

        Raises:
            BackendError: The engine has no such input, or one of another type or shape, or the
                array is not on the device.
        """
        for name, value in arrays.items():
            if not isinstance(value, DeviceArray):
                raise BackendError(
                    f"an engine on {self._device.name} binds what lies there, found an array of "
                    f"the host for '{name}'; take it from the memory of the engine's backend"
                )
            self._opened().bind(name, value)

    def run(self, inputs: Inputs) -> NDArray[np.float32]:
        """Run once, or in several parts if there are more frames than the profile takes at once.

        Raises:
            BackendError: An input is missing or does not fit, or the run fails.
        """
        return self._run(inputs, None, {}, features=False)[1]

    def run_with_head(
        self, inputs: Inputs, head: Engine, tensors: Inputs, *, features: bool = False
    ) -> FeaturesAndLogits:
        """Run, and a head over the features, which stay on the device: one launch for both.

        Features that are returned are a copy.

        Raises:
            BackendError: An input is missing or does not fit, or a run fails.
        """
        if not isinstance(head, TrtEngine):
            raise BackendError("a head must be an engine of its encoder's backend")
        return self._run(inputs, head, tensors, features=features)

    def close(self) -> None:
        """Release everything. Safe to call more than once."""
        if self._plan is not None:
            with contextlib.suppress(BackendError):  # a device that has failed does nothing more
                self._device.synchronize()
            self._recorded.close()
        with self._device.whole_gpu:
            self._plan = None
        self._places.close()
        if self._own is not None:
            self._own.close()

    def _run(
        self, inputs: Inputs, head: TrtEngine | None, tensors: Inputs, *, features: bool
    ) -> FeaturesAndLogits:
        plan = self._opened()
        plan.check_given(inputs)
        self._device.activate()
        fixed = self._places.fixed({n: inputs[n] for n in inputs if n != plan.batched})
        most, behind = plan.profile.batch.max, None
        if head is not None:
            last = head._opened()
            last.check_given({last.batched: inputs[plan.batched], **tensors})
            most, behind = min(most, last.profile.batch.max), head._places.fixed(tensors)
        frames = inputs[plan.batched]
        count = frames.shape[0]
        if count <= most:
            there = self._places.batch(plan.batched, frames)
            return self._part(there, fixed, head, behind, features)
        parts = []
        for start in range(0, count, most):
            # All parts in one place, so that a few graphs do for any number of frames.
            rows = self._places.batch(plan.batched, _rows(frames, start, most), copy=True)
            parts.append(self._part(rows, fixed, head, behind, features))
        seen = [part for part, _ in parts if part is not None]
        return np.concatenate(seen) if seen else None, np.concatenate([part for _, part in parts])

    def _part(
        self,
        frames: DeviceArray,
        fixed: Mapping[str, DeviceArray],
        head: TrtEngine | None,
        tensors: Mapping[str, DeviceArray] | None,
        features: bool,
    ) -> FeaturesAndLogits:
        plan, posted = self._opened(), None
        inputs = {**fixed, plan.batched: frames}
        shape = plan.output_shape(inputs)
        if head is None:
            mailbox = self._places.mailbox(plan.output, 4 * math.prod(shape))
            self._recorded.run(Step(plan, inputs, mailbox.address))
        else:
            last = head._opened()
            address = self._places.buffer(plan.output, 4 * math.prod(shape)).address
            between = DeviceArray(address, "float32", shape)
            given = {**(tensors or {}), last.batched: between}
            shape = last.output_shape(given)
            mailbox = head._places.mailbox(last.output, 4 * math.prod(shape))
            self._recorded.run(Step(plan, inputs, address), Step(last, given, mailbox.address))
            posted = self._places.posted(plan.output, between) if features else None
        mailbox.pull(4 * math.prod(shape))
        self._device.synchronize()
        seen = None if posted is None else taken(posted, between.shape)
        return seen, taken(mailbox, shape)

    def _opened(self) -> OpenedPlan:
        if self._plan is None:
            raise BackendError("the engine is closed; open a new session")
        return self._plan


def _rows(frames: NDArray[Any] | DeviceArray, start: int, most: int) -> NDArray[Any] | DeviceArray:
    """Return some of the frames, without copying them."""
    if not isinstance(frames, DeviceArray):
        return frames[start : start + most]
    row = frames.nbytes // frames.shape[0]
    shape = (min(most, frames.shape[0] - start), *frames.shape[1:])
    return DeviceArray(frames.address + start * row, frames.dtype, shape)
