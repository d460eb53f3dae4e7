"""A graph that OpenVINO runs on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.backends.base import Engine, FeaturesAndLogits, Inputs
from runtime.backends.checks import check_given, check_name
from runtime.errors import BackendError


class OpenvinoEngine:
    """A graph on the CPU, which reads NumPy's arrays where they are."""

    def __init__(self, library: Any, compiled: Any) -> None:
        """Take over a compiled model.

        Args:
            library: Module `openvino`.
            compiled: Compiled model of the graph.
        """
        self._ov = library
        self.inputs = frozenset(port.any_name for port in compiled.inputs)
        self._request = compiled.create_infer_request()
        self._bound: dict[str, Any] = {}

    def bind(self, arrays: Inputs) -> None:
        """Bind inputs that stay at one address.

        Raises:
            BackendError: The graph has no such input, or one of another type or shape.
        """
        for name, array in arrays.items():
            check_name(self.inputs, name)
            self._bound[name] = self._set(name, array)

    def run(self, inputs: Inputs) -> NDArray[np.float32]:
        """Run once; the result is a fresh array.

        Raises:
            BackendError: An input is missing or does not fit, or the run fails.
        """
        check_given(self.inputs, self._bound, inputs)
        given = [self._set(name, _writeable(array)) for name, array in inputs.items()]
        try:
            self._request.infer()
            result: NDArray[np.float32] = self._request.get_output_tensor(0).data.copy()
        except RuntimeError as error:
            raise _failed(error) from error
        del given  # the library reads them until here
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
        """Release the model and the bound values. Safe to call more than once."""
        self._request = None
        self._bound.clear()

    def _set(self, name: str, array: Any) -> Any:
        """Give the request an array to read where it is; return what keeps it alive."""
        # No copy: it is this very array.
        if array.dtype == np.uint16:  # bfloat16, which NumPy has no type for
            tensor = self._ov.Tensor(array, self._ov.Shape(array.shape), self._ov.Type.bf16)
        else:
            tensor = self._ov.Tensor(array, shared_memory=True)
        try:
            self._request.set_tensor(name, tensor)
        except RuntimeError as error:
            raise _failed(error) from error
        return tensor


def _writeable(array: Any) -> Any:
    """Return an array, or a copy of one that is read-only, which the library does not share."""
    return array if array.flags.writeable else array.copy()


def _failed(error: RuntimeError) -> BackendError:
    reason = " ".join(str(error).split())
    return BackendError(
        f"openvino failed: {reason}; export the bundle again if its parts do not fit"
    )
