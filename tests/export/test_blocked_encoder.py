import numpy as np
import onnx
import pytest

from adapt.clip.model import encoder_tensors
from adapt.methods.heads import TaskHead, head_tensors
from export.graphs import encoders
from export.graphs.encoder import blocked_graph, deploy_tensors, encoder_graph
from export.graphs.heads import head_graph, head_shapes
from export.merge import task_patch
from runtime.bundles import bundle
from runtime.bundles.graphs import EncoderGraph, HeadGraph
from runtime.bundles.task import Task
from runtime.models import BaseModel, Preprocess, TaskInfo
from runtime.sessions.session import Session
from runtime.storage.digest import tensors_sha256
from runtime.storage.files import sha256
from tests.export.helpers import perturb, random_pixels, resnet, vit


@pytest.fixture(scope="module")
def parts():
    """The parts of a bundle with three tasks on a ResNet whose channels make whole blocks."""
    tower = resnet(width=32)
    form, base, spec = encoders.get(tower), encoder_tensors(tower), Preprocess(64)
    tensors = deploy_tensors(form, base, "fp32")
    graphs = [make(form, tensors, spec) for make in (encoder_graph, blocked_graph)]
    encoder, blocked = (graph.SerializeToString() for graph in graphs)
    heads = head_tensors(perturb(TaskHead(form.dim, 3)))
    head, tasks = head_graph(TaskHead.kind, heads), []
    for seed in range(3):
        draw = np.random.default_rng(seed)
        merged = {
            n: a + np.float32(0.05) * (draw.random(a.shape) < 0.02).astype(np.float32)
            for n, a in base.items()
        }
        info = TaskInfo(f"a-{seed}", "toy", "a", str(seed), ("x", "y", "z"))
        patch = task_patch(form, tensors, merged, "fp32")
        identity = tensors_sha256(tensors)
        tasks.append(
            Task(
                info=info,
                method="cmkd",
                resize=spec.resize,
                interpolation=spec.interpolation,
                base_sha256=identity,
                encoder=sha256(encoder),
                tokens={},
                head=sha256(head),
                head_tensors=heads,
                patch=patch,
                record={},
            )
        )
    return {
        "base": BaseModel("toy", "none", tensors_sha256(base)),
        "precision": "fp32",
        "encoders": [EncoderGraph(encoder, spec, blocked=blocked)],
        "tensors": tensors,
        "heads": [HeadGraph(TaskHead.kind, head, head_shapes(TaskHead.kind, heads))],
        "tasks": tasks,
        "report": {},
    }


def test_session_gives_the_same_answers_with_and_without_blocks(parts, tmp_path):
    bundle.write(tmp_path / "toy.bundle", **parts)
    pixels = random_pixels(2, 64)
    with (
        Session.open(tmp_path / "toy.bundle", threads=1) as fast,
        Session.open(tmp_path / "toy.bundle", threads=1, blocked=False) as plain,
    ):
        for task in np.random.default_rng(0).choice(fast.tasks, 12).tolist():
            fast.switch(task)
            plain.switch(task)
            assert np.abs(fast.infer(pixels) - plain.infer(pixels)).max() <= 1e-4
        digest = fast.bundle.manifest.tensors.sha256
        assert fast.base_sha256() == plain.base_sha256() == digest


def test_blocked_graph_has_the_inputs_of_the_plain_one(parts):
    (made,) = parts["encoders"]
    plain, blocked = (onnx.load_from_string(content) for content in (made.graph, made.blocked))
    assert list(plain.graph.input) == list(blocked.graph.input)
    assert list(plain.graph.output) == list(blocked.graph.output)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("make", [vit, resnet])
def test_towers_without_whole_blocks_have_no_blocked_graph(make, precision):
    tower = make()
    form = encoders.get(tower)
    tensors = deploy_tensors(form, encoder_tensors(tower), precision)
    assert blocked_graph(form, tensors, Preprocess(form.size)) is None
