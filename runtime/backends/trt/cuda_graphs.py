"""Run engines one after the other as one CUDA graph, with one launch for all.

TensorRT forbids changing a context from which a graph was recorded, so each set of shapes and
addresses gets contexts of its own. What lies at the addresses may change: a switch does just that.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass

from runtime.backends.trt.plan import OpenedPlan
from runtime.cuda.base import Device, DeviceArray
from runtime.cuda.graphs import Graphs

_MOST = 8
"""Graphs of an engine: as many as the profile of a camera has batch sizes."""


@dataclass(frozen=True, eq=False)
class Step:
    """One run of an engine."""

    plan: OpenedPlan
    inputs: Mapping[str, DeviceArray]
    """Inputs that are not bound; they fit the engine."""
    output: int
    """Address of the output."""

    @property
    def key(self) -> Hashable:
        """Equal for runs that do the same at the same addresses."""
        inputs = ((name, array.address, array.shape) for name, array in self.inputs.items())
        return (self.plan, self.plan.bindings, self.output, *inputs)


class RecordedRuns:
    """Runs whose inputs and outputs lie at the same addresses again and again."""

    def __init__(self, device: Device) -> None:
        """Start without graphs."""
        self._device = device
        self._graphs = Graphs(device, _MOST)

    def run(self, *steps: Step) -> None:
        """Put steps onto the stream, as a graph where they can be recorded.

        Raises:
            BackendError: An engine fails.
        """

        def enqueue() -> None:
            for step in steps:
                step.plan.run(step.plan.context, step.inputs, step.output)

        self._graphs.run(tuple(step.key for step in steps), enqueue, lambda: self._prepare(steps))

    def close(self) -> None:
        """Release graphs and their contexts, when the stream has passed. Safe to call again."""
        self._graphs.clear()

    def _prepare(self, steps: tuple[Step, ...]) -> Callable[[], None]:
        """Return the same runs over contexts of their own."""
        contexts = [step.plan.make_context() for step in steps]
        for step, context in zip(steps, contexts, strict=True):
            step.plan.set_inputs(context, step.inputs)
            context.check_recordable(self._device.stream)

        def enqueue() -> None:
            for step, context in zip(steps, contexts, strict=True):
                step.plan.run(context, step.inputs, step.output)

        return enqueue
