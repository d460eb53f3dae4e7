"""Engines on a GPU against PyTorch on the CPU in float32."""

import subprocess
import sys

import numpy as np
import pytest

from adapt.artifacts.merge import load_base
from adapt.clip.model import encoder_tensors
from export.graphs import encoders
from export.graphs.encoder import deploy_tensors, encoder_graph
from export.pipeline import export_bundle
from export.sources import Source
from export.verification.images import ImagePaths
from export.verification.verifier import Verifier
from runtime import backends
from runtime.backends.trt.graphs import baked_graphs
from runtime.backends.trt.profile import PROFILES
from runtime.backends.trt.sets import build_all
from runtime.bundles.bundle import Bundle
from runtime.cuda.arena import Arena
from runtime.models import Preprocess
from runtime.patch import diff
from runtime.sessions.session import Session
from tests.export.helpers import TOWERS, random_pixels, torch_features
from tests.gpus import need_onnxruntime, need_tensorrt
from tests.runtime.conftest import _make_world

pytestmark = pytest.mark.gpu
TOLERANCES = {"fp32": 1e-4, "fp16": 3e-2}
"""Features have sizes of 1 to 5."""
SHARES = {"fp32": 1e-3, "fp16": 2e-2}
"""Largest difference of a logit, as a share of the spread of an image's logits; 1e-6 and 1e-3 on a
CPU. The first two classes of no image are nearer than 4e-2, so that fp16 cannot swap them."""


@pytest.fixture
def backend():
    need_onnxruntime()
    backend = backends.load("ort", "cuda", None)
    yield backend
    backend.memory.close()


@pytest.mark.parametrize("precision", TOLERANCES)
@pytest.mark.parametrize("name", TOWERS)
def test_onnx_runtime_computes_what_torch_computes_after_every_switch(backend, name, precision):
    towers = [TOWERS[name](seed=seed) for seed in range(3)]
    form = encoders.get(towers[0])
    tensors = [deploy_tensors(form, encoder_tensors(tower), precision) for tower in towers]
    arena = Arena(backend.memory.device, tensors[0], lambda: tensors[0])
    engine = backend.open(
        encoder_graph(form, tensors[0], Preprocess(form.size)).SerializeToString()
    )
    engine.bind(arena.handles)
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


@pytest.mark.parametrize(
    ("precision", "strategy"), [("fp32", "patch"), ("fp16", "patch"), ("fp16", "engines")]
)
@pytest.mark.parametrize("base", ["demo-rn32", "demo-vit32"])
@pytest.mark.parametrize("name", ["ort", "trt"])
def test_sessions_agree_with_torch_before_and_after_a_thousand_switches(
    world, tmp_path, name, base, precision, strategy
):
    need_tensorrt() if name == "trt" else need_onnxruntime()
    tasks, images = ("a-b", "a-c"), ImagePaths.parse((str(world.images),), None)
    paths = [world.train(t, base, seed=n, root=tmp_path / "a") for n, t in enumerate(tasks, 1)]
    path = tmp_path / "demo.bundle"
    export_bundle(paths, path, precision=precision, images=images, max_images=3)
    if name == "trt":
        bundle = Bundle.open(path)
        graphs = baked_graphs(bundle) if strategy == "engines" else None
        list(build_all(bundle, None, PROFILES["orin"], graphs=graphs))
    artifacts = [Source.read(each).artifact for each in paths]
    clip = load_base(artifacts[0], None)
    verifiers = [
        Verifier(clip, each, images.sample(each, 36), precision, lambda what, done, total: None)
        for each in artifacts
    ]
    with Session.open(path, backend=name, device="cuda", strategy=strategy) as session:
        for switches in (0, 1000):
            for task in np.random.default_rng(0).choice(tasks, switches):
                session.switch(str(task))
            assert session.base_sha256() == session.bundle.manifest.tensors.sha256
            for verifier in verifiers:
                session.switch(verifier.artifact.task.id)
                found = verifier.check(session.infer, name)
                assert found.images == 36
                assert found.max_difference <= SHARES[precision] * found.spread


BESIDE = """if True:
    import sys
    import numpy as np
    import torch
    import runtime

    path, device = sys.argv[1:]
    frame = np.zeros((20, 24, 3), np.uint8)

    def multiply():
        ones = torch.ones(64, 64, device=device)
        assert (ones @ ones).sum().item() == 64.0**3

    def check(session, want):
        for task in session.tasks:
            np.testing.assert_allclose(session.predict(frame, task).logits, want[task], rtol=1e-3)

    with runtime.Session.open(path) as session:
        want = {task: session.predict(frame, task).logits for task in session.tasks}
    with runtime.Session.open(path, device=device) as session:
        for _ in range(3):  # the third time from what was recorded
            check(session, want)
        multiply()
        check(session, want)
    multiply()  # the session has let go of the context
    with runtime.Session.open(path, device=device) as session:
        for _ in range(3):
            multiply()
            check(session, want)
    multiply()
"""


def test_a_session_runs_before_and_after_torch_first_uses_the_gpu(tmp_path):
    """In a process of its own, where torch has not used it yet."""
    need_onnxruntime()
    path = _make_world(tmp_path / "toy.bundle", tasks=5, mixed=True).path
    command = [sys.executable, "-c", BESIDE, str(path), "cuda"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
