"""A graph that ONNX Runtime runs on the stream of a GPU, as CUDA graphs where it can.

ONNX Runtime records a run by itself if it is given an id for it, `gpu_graph_id`, and launches what
was recorded when the id comes again; whatever is bound then is ignored. So an id stands for one set
of shapes and addresses. Each thread has graphs of its own.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from runtime.backends.base import Engine, FeaturesAndLogits, Inputs
from runtime.backends.checks import check_given, check_name
from runtime.backends.places import Places, taken
from runtime.cuda.base import DeviceArray
from runtime.cuda.device import CudaDevice
from runtime.errors import BackendError, raised_by

T = TypeVar("T")
_MOST = 32
"""Graphs of an engine; ONNX Runtime lets none go before the session."""
_NONE = -1
"""The id of a run that is neither recorded nor replayed."""
_BATCHED = ("pixels", "features")
_LARGEST = {"batch": 32, "classes": 1000}
"""Lengths of free axes for which memory is allocated at once, so that addresses stay."""
_BYTES = {"tensor(uint8)": 1, "tensor(float16)": 2, "tensor(float)": 4}


class OrtDeviceEngine:
    """A graph on the stream of a device."""

    where = "cuda"
    """ONNX Runtime's name for the memory of a device."""

    def __init__(self, library: Any, session: Any, device: CudaDevice, *, graphs: bool) -> None:
        """Take over a session.

        Args:
            library: ONNX Runtime's module.
            session: Its session of the graph, on the device's stream.
            device: Device with the stream and memory to use.
            graphs: Whether the session was opened so that it can record runs.
        """
        self._ort, self._session, self._device = library, session, device
        tensors = (*session.get_inputs(), *session.get_outputs())
        self._shapes = {each.name: (each.type, tuple(each.shape)) for each in tensors}
        self.inputs = frozenset(i.name for i in session.get_inputs())
        self._output = session.get_outputs()[0].name
        self._bound: dict[str, DeviceArray] = {}
        self._given: dict[str, DeviceArray] = {}
        """Arrays that are bound, weights aside."""
        self._binding = session.io_binding()
        self._places = Places(device, self._room)
        self._ids: dict[Hashable, int] = {}
        self._newest = 0
        self._options: dict[int, Any] = {}
        self._most = _MOST if graphs else 0
        self._here = threading.local()

    def bind(self, arrays: Inputs) -> None:
        """Bind inputs that stay at one address.

        Raises:
            BackendError: The graph has no such input, or the array is not on the device.
        """
        for name, array in arrays.items():
            check_name(self.inputs, name)
            if not isinstance(array, DeviceArray):
                raise BackendError(
                    f"a graph on {self._device.name} binds what lies there, found an array of the "
                    f"host for '{name}'; take it from the memory of the engine's backend"
                )
            self._bind_address(name, array)
            self._bound[name] = array
        self._ids.clear()

    def run(self, inputs: Inputs) -> NDArray[np.float32]:
        """Run once; the result is a fresh array.

        Raises:
            BackendError: An input is missing or does not fit, or the run fails.
        """
        shape = self._prepare(inputs)
        if shape is None:
            return self._run_anywhere()
        nbytes = 4 * math.prod(shape)
        mailbox = self._places.mailbox(self._output, nbytes)
        self._launch(shape, mailbox.address)
        mailbox.pull(nbytes)
        self._device.synchronize()
        return taken(mailbox, shape)

    def run_with_head(
        self, inputs: Inputs, head: Engine, tensors: Inputs, *, features: bool = False
    ) -> FeaturesAndLogits:
        """Run, then a head over the features, which stay on the device; those returned are a copy.

        Raises:
            BackendError: An input is missing or does not fit, or a run fails.
        """
        shape = self._prepare(inputs)
        if shape is None:
            found = self._run_anywhere()
            return found if features else None, head.run({"features": found, **tensors})
        address = self._places.buffer(self._output, 4 * math.prod(shape)).address
        self._launch(shape, address)
        here = DeviceArray(address, "float32", shape)
        mailbox = self._places.posted(self._output, here) if features else None
        logits = head.run({"features": here, **tensors})
        if mailbox is None:
            return None, logits
        self._device.synchronize()  # a head that does not tell its shape waits for itself alone
        return taken(mailbox, shape), logits

    def close(self) -> None:
        """Release the session and the bound values. Safe to call more than once."""
        with contextlib.suppress(BackendError):  # closed, or failed
            self._device.activate()
        with self._device.whole_gpu:  # for which the release of cuBLAS waits
            self._binding = self._session = None
        self._bound.clear()
        self._places.close()

    def _prepare(self, inputs: Inputs) -> tuple[int, ...] | None:
        """Bring inputs to the device; return the shape of the output if the graph tells it."""
        check_given(self.inputs, self._bound, inputs)
        for name in inputs:
            check_name(self.inputs, name)
        self._device.activate()
        given = self._places.fixed({n: inputs[n] for n in inputs if n not in _BATCHED})
        for name in inputs.keys() - given.keys():
            given[name] = self._places.batch(name, inputs[name])
        lengths: dict[str, int] = {}
        for name, array in given.items():
            if self._given.get(name) != array:
                self._given.pop(name, None)
                self._calling(lambda: self._bind_address(name, array))  # noqa: B023
                self._given[name] = array
            axes = zip(self._shapes[name][1], array.shape, strict=False)
            lengths |= {axis: length for axis, length in axes if isinstance(axis, str)}
        shape = [lengths.get(n, n) for n in self._shapes[self._output][1]]
        return tuple(shape) if all(isinstance(length, int) for length in shape) else None

    def _launch(self, shape: tuple[int, ...], address: int) -> None:
        """Run with what is bound; the output goes to an address on the device."""
        given = ((name, array.address, array.shape) for name, array in self._given.items())
        number = self._id((address, *sorted(given)))
        where = (self.where, self._device.index, np.float32, shape, address)
        self._calling(lambda: self._binding.bind_output(self._output, *where))
        known: set[int] = self._here.__dict__.setdefault("known", set())
        if number in known or number == _NONE:
            self._run(number)
            return
        if not self._device.recordable:  # the next time, then
            self._run(_NONE)
            return
        if not self._recorded(number):
            self._run(_NONE)
        known.add(number)

    def _id(self, key: Hashable) -> int:
        """Return the id of a run, which is not recorded when it comes for the first time."""
        here: set[Hashable] = self._here.__dict__.setdefault("runs", set())
        if key not in here:
            if len(here) > 8 * _MOST:
                here.clear()
            here.add(key)
            return _NONE
        if key not in self._ids:
            if self._newest >= self._most:
                return _NONE
            self._newest += 1
            self._ids[key] = self._newest
        return self._ids[key]

    def _recorded(self, number: int) -> bool:
        """Run while ONNX Runtime records it; return whether it could."""
        try:
            self._device.alone(lambda: self._run(number))
        except BackendError:  # a device that has failed also reports it at the next call
            self._ids.update({key: _NONE for key, own in self._ids.items() if own == number})
            return False
        return True

    def _run(self, number: int) -> None:
        options = self._options_of(number)
        self._calling(lambda: self._session.run_with_iobinding(self._binding, options))

    def _options_of(self, number: int) -> Any:
        if number not in self._options:
            options = self._ort.RunOptions()
            options.add_run_config_entry("gpu_graph_id", str(number))
            self._options[number] = options
        return self._options[number]

    def _run_anywhere(self) -> NDArray[np.float32]:
        """Run a graph that does not tell the shape of its output."""

        def run() -> NDArray[np.float32]:
            # Bound anew, since the last run's result fixed its shape.
            self._binding.bind_output(self._output, "cpu")
            self._session.run_with_iobinding(self._binding, self._options_of(_NONE))
            result: NDArray[np.float32] = self._binding.copy_outputs_to_cpu()[0]
            return result

        return self._calling(run)

    def _calling(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except Exception as error:  # onnxruntime's exceptions share no base class
            if not raised_by(error, "onnxruntime"):
                raise
            with contextlib.suppress(BackendError):  # it has failed as well
                self._device.synchronize()  # it may still read what the next run overwrites
            raise BackendError(
                f"onnxruntime failed: {error}; check the CUDA libraries, cuDNN among them, or "
                "export the bundle again if its parts do not fit"
            ) from error

    def _bind_address(self, name: str, array: DeviceArray) -> None:
        self._binding.bind_input(
            name, self.where, self._device.index, np.dtype(array.dtype), array.shape, array.address
        )

    def _room(self, name: str) -> int:
        kind, shape = self._shapes[name]
        lengths = (n if isinstance(n, int) else _LARGEST.get(n, 0) for n in shape)
        return _BYTES.get(kind, 0) * math.prod(lengths)
