"""Self-test of a new engine on its GPU."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from runtime.backends.base import Inputs
from runtime.backends.trt.device import runtime_on
from runtime.backends.trt.engine import TrtEngine
from runtime.backends.trt.engine_file import EngineFile
from runtime.backends.trt.plan import BATCHED
from runtime.cuda.base import Device
from runtime.errors import BackendError

_SAME = 0.05
"""Share of the largest value by which a frame's values may change with the batch: kernels differ,
and fp16 has 3 digits."""
_RUNS = 3
"""The second one is recorded as a CUDA graph, where that can be; the third is what was recorded."""


def self_test(device: Device, engine: EngineFile, plan: bytes, inputs: Inputs) -> None:
    """Run a new engine at the batch sizes of its profile, as often as makes it a CUDA graph.

    Args:
        device: GPU to run the engine on.
        engine: Description of the engine.
        plan: Plan of the engine.
        inputs: A value for each input; frames are drawn here.

    Raises:
        BackendError: It cannot be opened or run, or gives values that are not finite, or others
            for the same frame in another batch.
        FormatError: The engine does not match its description.
    """
    opened = TrtEngine(device, runtime_on(device), plan, engine.tensors, engine.recipe.profile)
    try:
        batch = engine.recipe.profile.batch
        name = next(n for n in BATCHED if n in opened.inputs)
        spec = next(tensor for tensor in engine.tensors if tensor.name == name)
        draw = np.random.default_rng(0).integers(0, 256, (batch.max, *spec.shape[1:]), np.uint8)
        frames = draw if spec.dtype == "uint8" else draw.astype(spec.dtype) / 128 - 1
        rest = {key: value for key, value in inputs.items() if key in opened.inputs}
        first: NDArray[np.float32] | None = None
        for count in sorted({batch.min, batch.opt, batch.max}):
            given = {**rest, name: np.ascontiguousarray(frames[:count])}
            for _ in range(_RUNS):
                found = opened.run(given)
                first = found[0] if first is None else first
                spread = float(np.abs(first).max())
                if not np.isfinite(found).all() or float(np.abs(found[0] - first).max()) > (
                    _SAME * max(spread, 1e-6)
                ):
                    raise BackendError(
                        f"the new engine '{engine.slot}' failed its self-test with {count} frames: "
                        "its values are not finite, or others than for one frame; the former "
                        "engine, if there was one, is still there; build with another version of "
                        "the library"
                    )
    finally:
        opened.close()
