"""Record work as CUDA graphs, one per key, so that one launch replaces many.

A graph holds the addresses that it was recorded with. Weights, tokens, inputs and outputs stay at
theirs, and a switch changes only the values there: so a graph outlives every switch.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Hashable

from runtime.cuda.base import Device, Graph
from runtime.cuda.driver import call
from runtime.errors import BackendError

Work = Callable[[], None]
_NOTED = 64
"""Keys without a graph that are remembered."""


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
    nothing can record. The second time it is prepared to be recorded, runs, and is recorded right
    after; later, if an engine is being opened meanwhile. Work that cannot be recorded, or for whose
    graph there is no memory, runs as it is from then on. The graph that was launched least recently
    makes room for a new one.
    """

    def __init__(self, device: Device, most: int = 16) -> None:
        """Start empty.

        Args:
            device: Device to use.
            most: Graphs that are kept.
        """
        self._device, self._most = device, most
        self._graphs: OrderedDict[Hashable, tuple[Graph, Work]] = OrderedDict()
        """With the work that each was recorded from, which owns what the graph uses."""
        self._unrecorded: OrderedDict[Hashable, bool] = OrderedDict()
        """Keys that came once, and those whose work cannot be recorded: true."""

    def run(self, key: Hashable, work: Work, prepare: Callable[[], Work] | None = None) -> None:
        """Put onto the stream what `work` puts there.

        Args:
            key: Equal keys stand for the same work with the same addresses.
            work: Calls that do not wait for the stream.
            prepare: Returns the same work over what is used by its graph alone, as where a library
                forbids changing what a graph was recorded from; None records `work` itself.

        Raises:
            BackendError: The driver or `work` reports an error.
        """
        found = self._graphs.get(key)
        if found is not None:
            self._graphs.move_to_end(key)
            found[0].launch()
            return
        impossible = self._unrecorded.get(key)
        if impossible is None:
            work()
            self._note(key, impossible=False)
        elif (
            impossible
            or not self._device.recordable
            or not self._record(key, prepare or (lambda: work))
        ):
            work()

    def clear(self) -> None:
        """Release all graphs: some address changed, or nobody needs them any more."""
        graphs = [graph for graph, _ in self._graphs.values()]
        self._unrecorded.clear()
        self._graphs.clear()  # first: nobody may find a closed one
        for graph in graphs:
            graph.close()

    def _record(self, key: Hashable, prepare: Callable[[], Work]) -> bool:
        """Run the work of a key and record it if that can be; return whether it has run."""
        ran = False
        try:
            while len(self._graphs) >= self._most:
                self._device.synchronize()  # what a library keeps for a graph may be in use
                self._graphs.popitem(last=False)[1][0].close()
            work = prepare()
            work()
            ran = True
            self._graphs[key] = self._device.record(work), work
            self._unrecorded.pop(key, None)
        except BaseException as error:
            with contextlib.suppress(BackendError):  # one that has failed says so at the next call
                self._device.synchronize()  # what was prepared may be in use, and goes now
            if not isinstance(error, BackendError):
                raise
            self._note(key, impossible=True)
        return ran

    def _note(self, key: Hashable, *, impossible: bool) -> None:
        self._unrecorded[key] = impossible
        self._unrecorded.move_to_end(key)
        while len(self._unrecorded) > _NOTED:
            self._unrecorded.popitem(last=False)
