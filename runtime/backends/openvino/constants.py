"""Turn inputs of an OpenVINO model into constants."""

from __future__ import annotations

from typing import Any

import numpy as np

from runtime.backends.base import Arrays
from runtime.errors import FormatError


def replace_inputs(library: Any, model: Any, arrays: Arrays) -> None:
    """Replace inputs of a model by constants, which copy the arrays.

    Args:
        library: Module `openvino`.
        model: Model whose inputs are replaced, in place.
        arrays: Values by name of the input, of its type and shape.

    Raises:
        FormatError: An array has no input of its type and shape.
    """
    inputs = {port.any_name: port for port in model.inputs}
    for name, array in arrays.items():
        port = inputs.get(name)
        if port is None:
            raise FormatError(f"the graph has no input '{name}'; export the bundle again")
        fits = port.partial_shape.compatible(library.PartialShape(list(array.shape)))
        if not fits or port.element_type != library.Type(array.dtype):
            raise FormatError(
                f"the graph's input '{name}' is {port.element_type.to_string()} "
                f"{port.partial_shape}, found {array.dtype}{array.shape}; export the bundle again"
            )
        parameter = port.get_node()
        constant = library.op.Constant(np.ascontiguousarray(array), shared_memory=False)
        parameter.output(0).replace(constant.output(0))
        model.remove_parameter(parameter)
    model.validate_nodes_and_infer_types()
