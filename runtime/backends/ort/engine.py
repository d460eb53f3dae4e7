"""A graph that ONNX Runtime runs on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.backends.base import Engine, FeaturesAndLogits, Inputs
from runtime.backends.checks import check_given, check_name
from runtime.errors import BackendError, raised_by


class OrtEngine:
    """A graph on the CPU, which reads NumPy's arrays where they are."""

    def __init__(self, library: Any, session: Any) -> None:
        """Take over a session.

        Args:
            library: ONNX Runtime's module.
            session: Its session of the graph.
        """
        self._ort, self._session = library, session
        self.inputs = frozenset(i.name for i in session.get_inputs())
        self._output = session.get_outputs()[0].name
        self._bound: dict[str, Any] = {}
        self._binding = session.io_binding()

    def bind(self, arrays: Inputs) -> None:
        """Bind inputs that stay at one address.

        Raises:
            BackendError: The graph has no such input.
        """
        for name, array in arrays.items():
            check_name(self.inputs, name)
            # No copy: it is this very array.
            self._bound[name] = self._ort.OrtValue.ortvalue_from_numpy(array)
            self._binding.bind_ortvalue_input(name, self._bound[name])

    def run(self, inputs: Inputs) -> NDArray[np.float32]:
        """Run once; the result is a fresh array.

        Raises:
            BackendError: An input is missing or does not fit, or the run fails.
        """
        check_given(self.inputs, self._bound, inputs)
        try:
            for name, value in inputs.items():
                self._binding.bind_cpu_input(name, value)
            # Bound anew, since the last run's result fixed its shape.
            self._binding.bind_output(self._output, "cpu")
            self._session.run_with_iobinding(self._binding)
            result: NDArray[np.float32] = self._binding.copy_outputs_to_cpu()[0]
        except Exception as error:  # onnxruntime's exceptions share no base class
            if not raised_by(error, "onnxruntime"):
                raise
            raise BackendError(
                f"onnxruntime failed: {error}; export the bundle again if its parts do not fit"
            ) from error
        return result

    def run_with_head(
        self, inputs: Inputs, head: Engine, tensors: Inputs, *, features: bool = False
    ) -> FeaturesAndLogits:
        """Run, then a head over the features; return these if asked to, and the logits.

        Raises:
            BackendError: An input is missing or does not fit, or a run fails.
        """
        found = self.run(inputs)
        return found if features else None, head.run({"features": found, **tensors})

    def close(self) -> None:
        """Release the session and the bound values. Safe to call more than once."""
        self._binding = self._session = None
        self._bound.clear()
