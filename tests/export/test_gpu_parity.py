"""Engines on a GPU against PyTorch on the CPU in float32."""

import numpy as np
import pytest

from adapt.clip import encoder_tensors
from export.encoder import deploy_tensors, encoder_graph, form_of
from runtime import backends
from runtime.bundles.patch import diff
from runtime.cuda.arena import Arena
from runtime.spec import Preprocess
from tests.export.helpers import TOWERS, random_pixels, torch_features

pytestmark = pytest.mark.gpu
TOLERANCES = {"fp32": 1e-4, "fp16": 3e-2}
"""Features have sizes of 1 to 5."""


@pytest.fixture
def backend():
    backend = backends.load("ort", "cuda", None)
    yield backend
    backend.cuda.close()


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize("name", TOWERS)
def test_onnx_runtime_computes_what_torch_computes_after_every_switch(backend, name, precision):
    towers = [TOWERS[name](seed=seed) for seed in range(3)]
    form = form_of(towers[0])
    tensors = [deploy_tensors(form, encoder_tensors(tower), precision) for tower in towers]
    arena = Arena(backend.cuda, tensors[0])
    engine = backend.open(
        encoder_graph(form, tensors[0], Preprocess(form.size)).SerializeToString()
    )
    engine.bind(arena)
    patches = [arena.prepare(diff(tensors[0], each)) for each in tensors]
    for number in (0, 1, 2, 0, 2, 1, 0):
        arena.apply(patches[number])
        for batch in (1, 3):
            pixels = random_pixels(batch, form.size, number)
            found, want = engine.run({"pixels": pixels}), torch_features(towers[number], pixels)
            np.testing.assert_allclose(found, want, atol=TOLERANCES[precision], rtol=0)
    for tensor, array in tensors[0].items():
        assert arena.read(tensor).tobytes() == array.tobytes()
    engine.close()
