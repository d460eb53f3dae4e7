"""ONNX Runtime's own adapters (`.onnx_adapter`), with the full changed tensors in them.

The graph has no weights, as ours. What a task changed comes from its adapter, the rest from the
base, given to every run. An adapter can only replace whole tensors, and a residual changes a few
entries of nearly every one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks.peers import Files
from benchmarks.peers.ort import open_session
from runtime.bundles.bundle import Bundle


class Adapters:
    """Maps an adapter per task; a switch chooses one."""

    def __init__(self, files: Files, tasks: int, threads: int) -> None:
        bundle = Bundle.open(files.bundle)
        weights = bundle.weights()
        self._base = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(view)
            for name, view in weights.views().items()
        }
        # The public `run` refuses inputs that only the adapter brings; what is below it does not.
        self._keep = open_session(files.graph(), threads)
        self._session = self._keep._sess
        self._tasks: list[tuple[Any, Any, dict[str, Any]]] = []
        for number in range(tasks):
            task = bundle.task(bundle.tasks[number], weights.layout)
            adapter = onnxruntime.LoraAdapter()
            adapter.Load(str(files.adapter(number)))
            options = onnxruntime.RunOptions()
            options.add_active_adapter(adapter)
            rest = {
                name: value._get_c_value()
                for name, value in self._base.items()
                if name not in task.patch
            }
            self._tasks.append((adapter, options, rest))
        self.switch(0)

    def switch(self, number: int) -> None:
        _, self._options, self._rest = self._tasks[number]

    def predict(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        frame = onnxruntime.OrtValue.ortvalue_from_numpy(pixels)._get_c_value()
        given = {"pixels": frame, **self._rest}
        logits: NDArray[np.float32] = self._session.run_with_ort_values(
            given, ["logits"], self._options
        )[0].numpy()
        return logits

    def close(self) -> None:
        self._tasks.clear()
        self._session = self._keep = self._options = None
        self._rest = {}
