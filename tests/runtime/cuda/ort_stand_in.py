"""ONNX Runtime's CUDA provider over the emulated driver, whose memory the CPU provider reads.

Whoever opens or releases a session waits for the whole GPU, as the provider and cuBLAS do.

A run happens when the stream gets there. One with a graph's id records the stream in the mode that
the provider uses, and when the thread gives the id again, what was bound then is computed again,
whatever is bound by now: so an address that moved shows.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter

from runtime.backends.ort.backend import OrtBackend
from runtime.cuda.device import CudaDevice
from runtime.cuda.driver import call, driver
from runtime.errors import BackendError
from runtime.memory.device import DeviceMemory

calls: Counter[str] = Counter()
"""`bound`, `run`, `recorded` and `replayed`."""


class Binding:
    """An IO binding that knows what was bound."""

    def __init__(self, binding):
        self.real, self.inputs, self.output = binding, {}, ()

    def bind_input(self, name, *where):
        calls["bound"] += 1
        self.inputs[name] = where
        self.real.bind_input(name, *where)

    def bind_output(self, *where):
        self.output = where
        self.real.bind_output(*where)

    def copy_outputs_to_cpu(self):
        return self.real.copy_outputs_to_cpu()


class StandInSession:
    """A session that runs when the stream gets there."""

    refuse = None
    """What a run does that should be recorded, in the middle of it."""

    def __init__(self, session, device):
        self._session, self._device, self._here = session, device, threading.local()

    def __getattr__(self, name):
        return getattr(self._session, name)

    def __del__(self):
        with contextlib.suppress(BackendError):  # after the device
            call("cuCtxSynchronize")

    def io_binding(self):
        return Binding(self._session.io_binding())

    def run_with_iobinding(self, binding, options):
        number = options.get_run_config_entry("gpu_graph_id")
        graphs = self._here.__dict__.setdefault("graphs", {})
        self._device.synchronize()
        if number in graphs:
            calls["replayed"] += 1
            inputs, output = graphs[number]
            again = self._session.io_binding()
            for name, where in inputs.items():
                again.bind_input(name, *where)
            again.bind_output(*output)
            self._session.run_with_iobinding(again)
            return
        if number != "-1":
            mode = driver().CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_GLOBAL
            call("cuStreamBeginCapture", self._device.stream, mode)
            if StandInSession.refuse is not None:
                StandInSession.refuse(self._session)
            call("cuGraphDestroy", call("cuStreamEndCapture", self._device.stream))
            graphs[number] = dict(binding.inputs), binding.output
            calls["recorded"] += 1
        calls["run"] += 1
        self._session.run_with_iobinding(binding.real)


class Backend(OrtBackend):
    """Opens sessions on the CPU, which reads the device's memory as the host's: here it is."""

    def __init__(self, device, threads, *engines):
        super().__init__("cpu", threads)
        self._device = CudaDevice()
        self.memory = DeviceMemory(self._device)

    def open(self, graph, *, small=False, baked=None):
        engine = super().open(graph, small=small, baked=baked)
        engine.where = "cpu"
        return engine

    def _session(self, graph, small, baked, settings):
        self._device.activate()
        call("cuCtxSynchronize")
        return StandInSession(super()._session(graph, small, baked, {}), self._device)
