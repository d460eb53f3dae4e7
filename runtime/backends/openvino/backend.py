"""Backend `openvino`: OpenVINO on the CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runtime.backends.base import Arrays
from runtime.backends.names import index_of
from runtime.backends.openvino.constants import replace_inputs
from runtime.backends.openvino.engine import OpenvinoEngine
from runtime.backends.openvino.library import core, openvino
from runtime.errors import BackendError, FormatError
from runtime.memory.host import HostMemory
from runtime.models import Precision

_CONVOLUTIONS = {"Convolution", "GroupConvolution"}
_FEW = 1
"""Most convolutions of an encoder whose filters are inputs: a transformer has one."""


class OpenvinoBackend:
    """Opens graphs with OpenVINO, whose engines read NumPy's arrays where they are.

    float32 is multiplied as float32. The weights of a bf16 bundle are bfloat16 values, so they are
    held and multiplied as such where the processor can; a processor that cannot is refused, since
    float32 would be no faster than another backend, and give other answers than the export
    verified.

    Raises:
        BackendError: openvino is missing, or this processor does not multiply bfloat16 and the
            bundle asks for it.
    """

    def __init__(
        self,
        device: str,
        threads: int | None,
        bundle: object = None,
        engines: object = None,
        precision: Precision = "fp32",
    ) -> None:
        """Start the library; `bundle` and `engines` are ignored."""
        if index_of(device) is not None:
            raise BackendError(f"backend 'openvino' runs on the CPU, found device '{device}'")
        self._ov = openvino()
        self._core = core()
        self.version = f"openvino {self._ov.__version__.partition('-')[0]}"
        self.device = device
        self.block = 1  # it lays out constant filters itself
        self.memory = HostMemory()
        self._threads = threads
        self.bf16 = precision == "bf16"
        check_bf16(precision, self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"))

    def open(
        self, graph: bytes, *, small: bool = False, baked: Arrays | None = None
    ) -> OpenvinoEngine:
        """Return an engine for the bytes of an ONNX graph.

        Raises:
            FormatError: The graph is damaged, or a baked array has no input that it fits.
            BackendError: The graph cannot be opened, or convolves with filters that are inputs.
        """
        try:
            model = self._core.read_model(graph)
        except RuntimeError as error:
            raise FormatError(
                f"openvino cannot read a graph: {_last_line(error)}; export the bundle again"
            ) from error
        if baked:
            replace_inputs(self._ov, model, baked)
        _check_convolutions(model)
        if self.bf16 and not small:
            model = _with_bf16_inputs(self._ov, model)
        _leave_rows_open(model)
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "bf16" if self.bf16 and not small else "f32",
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        }
        if small:
            settings["INFERENCE_NUM_THREADS"] = 1
        elif self._threads is not None:
            settings["INFERENCE_NUM_THREADS"] = self._threads
        try:
            compiled = self._core.compile_model(model, "CPU", settings)
            return OpenvinoEngine(self._ov, compiled)
        except RuntimeError as error:
            raise BackendError(
                f"openvino cannot open the graph on the CPU: {_last_line(error)}; check the bundle "
                "with uda-runtime info --check"
            ) from error


def check_bf16(precision: Precision, able: Sequence[str]) -> None:
    """Check that a processor can multiply a bundle's weights.

    Args:
        precision: Precision of the bundle.
        able: Capabilities of the processor as the library reports them, such as `FP32` and `BF16`.

    Raises:
        BackendError: The bundle is a bf16 one, and the processor does not multiply bfloat16.
    """
    if precision == "bf16" and "BF16" not in able:
        raise BackendError(
            f"this processor does not multiply bf16 (it has {', '.join(sorted(able))}), which a "
            "bf16 bundle asks of backend 'openvino'; pass --backend ort, or export the bundle with "
            "--precision fp32"
        )


def _check_convolutions(model: Any) -> None:
    """Check that few convolutions have filters that are inputs, which are 15 times slower.

    Raises:
        BackendError: There are more.
    """
    slow = 0
    for node in model.get_ops():
        if node.get_type_name() in _CONVOLUTIONS:
            slow += node.input_value(1).get_node().get_type_name() == "Parameter"
    if slow > _FEW:
        raise BackendError(
            f"openvino convolves many times slower with filters that are inputs, and this encoder "
            f"has {slow} such convolutions; pass --strategy engines, or --backend ort"
        )


def _with_bf16_inputs(library: Any, model: Any) -> Any:
    """Return a model whose float32 inputs of two or more axes are bfloat16.

    What it multiplies in bfloat16 it then reads where it lies; float32 is converted at every run.
    """
    steps = library.preprocess.PrePostProcessor(model)
    for number, port in enumerate(model.inputs):
        if port.element_type == library.Type.f32 and port.partial_shape.rank.get_length() >= 2:
            steps.input(number).tensor().set_element_type(library.Type.bf16)
    return steps.build()


def _leave_rows_open(model: Any) -> None:
    """Leave the number of rows of matrices that are inputs open.

    For every input of a fixed shape the library keeps a buffer of its own: a second base in memory,
    which nothing ever reads.
    """
    shapes = {port: port.partial_shape for port in model.inputs}
    matrices = {port: shape for port, shape in shapes.items() if shape.rank.get_length() == 2}
    model.reshape({port: [-1, shape[1]] for port, shape in matrices.items()})


def _last_line(error: RuntimeError) -> str:
    """Return what an exception of the library says, without its source lines."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in reversed(lines) if line), "no reason given")
