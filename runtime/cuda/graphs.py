"""Record work as CUDA graphs, one per key, so that one launch replaces many.

A graph holds the addresses that it was recorded with. Weights, tokens and what goes in and out stay
at theirs, and a switch changes what lies there: so a graph outlives every switch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable

from runtime.cuda.base import Device, Graph
from runtime.cuda.driver import call
from runtime.errors import BackendError


class CudaGraph:
    """Work on the stream that was recorded once."""

    def __init__(self, executable: object, stream: int) -> None:
        """Take over an instantiated graph."""
        self._executable: object | None = executable
        self._stream = stream

    def launch(self) -> None:
        """Put all of it onto the stream.

        Raises:
            BackendError: The driver reports an error.
        """
        call("cuGraphLaunch", self._executable, self._stream)

    def close(self) -> None:
        """Release it; the driver waits with that until it has run. Safe to call more than once."""
        executable, self._executable = self._executable, None
        if executable is not None:
            with contextlib.suppress(BackendError):  # the device has failed, and this with it
                call("cuGraphExecDestroy", executable)


class Graphs:
    """A graph per key, such as the batch size, made when the key comes for the second time.

    The first time the work runs as it is: libraries load code and allocate memory then, which
    nothing can record. The second time it runs and is recorded right after, when what TensorRT puts
    off until a shape's next run is done.

    TensorRT forbids changing a context from which a graph was recorded. So each key needs a context
    of its own, and equal keys must mean equal shapes and equal addresses of all inputs and outputs.
    """

    def __init__(self, device: Device, most: int = 16) -> None:
        """Start empty.

        Args:
            device: Device to use.
            most: Graphs that are kept; further keys run without.
        """
        self._device, self._most = device, most
        self._graphs: dict[Hashable, Graph | None] = {}

    def run(self, key: Hashable, work: Callable[[], None]) -> None:
        """Put onto the stream what `work` puts there.

        Args:
            key: Equal keys stand for the same work with the same addresses.
            work: Calls that do not wait for the stream.

        Raises:
            BackendError: The driver or `work` reports an error.
        """
        graph = self._graphs.get(key)
        if graph is not None:
            graph.launch()
            return
        work()
        if key in self._graphs:
            self._graphs[key] = self._device.record(work)
        elif len(self._graphs) < self._most:
            self._graphs[key] = None

    def clear(self) -> None:
        """Release all graphs: some address changed, or nobody needs them any more."""
        graphs = list(self._graphs.values())
        self._graphs.clear()  # first: nobody may find a closed one
        for graph in graphs:
            if graph is not None:
                graph.close()
