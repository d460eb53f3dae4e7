"""Tasks as different methods leave them, on one base, in one bundle."""

import json
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest

from adapt.artifacts.artifact import Artifact
from adapt.artifacts.merge import Network
from adapt.clip import model as clips
from adapt.compute.inference import predict
from export.pipeline import export_bundle, verify_bundle
from export.verification.images import ImagePaths
from runtime.bundles.bundle import Bundle
from runtime.errors import BaseModelError, VerifyError
from runtime.frames.preprocess import preprocess, read_image
from runtime.sessions.session import Session

CROP = {"resize": "crop", "interpolation": "bicubic"}
FROZEN = {"share": 0.0, "variant": "cmkd"}
TASKS = {
    "a-c": {"seed": 3},  # CMKD with RST
    "a-p": {"seed": 4, **FROZEN, **CROP, "head": "affine"},  # UniMoS
    "a-r": {"seed": 5, **FROZEN, "head": "cosine"},  # zero-shot
    "c-a": {"seed": 6, **FROZEN, **CROP, "head": "projector-cosine", "prompts": (2, 4)},  # EKDA
    "c-p": {"seed": 7, **FROZEN, **CROP, "head": "projector-cosine", "prompts": (2, 4)},
    "c-r": {"seed": 8, **FROZEN, **CROP, "head": "projector-cosine", "prompts": (1, 3)},
}


@pytest.fixture(scope="module")
def paths(world, tmp_path_factory):
    root = tmp_path_factory.mktemp("artifacts")
    return {
        task: world.train(task, base="demo-vit32", root=root, **changes)
        for task, changes in TASKS.items()
    }


@pytest.fixture(scope="module")
def made(world, paths, tmp_path_factory):
    """The bundle of all tasks with baked files beside it."""
    out = tmp_path_factory.mktemp("mixed") / "all.bundle"
    export_bundle(list(paths.values()), out, images=ImagePaths(world.images), baked=True)
    return out


def expected(path, frames):
    """Adapt's own path in PyTorch, from frames of any size."""
    artifact = Artifact.load(path)
    clip = clips.load(artifact.config["model"], artifact.config["pretrained"])
    pixels = np.stack([preprocess(frame, artifact.preprocess) for frame in frames])
    logits = predict(Network.of(clip, artifact), pixels, 8, mean=clip.mean, std=clip.std)
    return pixels, logits.numpy()


def test_tasks_of_all_methods_answer_as_pytorch_does_and_share_what_they_can(world, paths, made):
    frames = [read_image(file) for file in sorted(world.images.glob("*/1*.png"))]
    assert frames[0].shape == (40, 50, 3)  # so that squashing and cropping differ
    want = {task: expected(path, frames) for task, path in paths.items()}
    with Session.open(made, threads=1) as session:
        manifest = session.bundle.manifest
        assert [len(encoder.tokens) for encoder in manifest.encoders] == [0, 2, 1]
        assert {head.kind for head in manifest.heads} == {
            *("bn-ln-linear", "affine", "cosine", "projector-cosine")
        }
        for task in np.random.default_rng(0).choice([*paths], 18).tolist():
            session.switch(task)
            pixels, logits = want[task]
            found = np.stack([answer.logits for answer in session.predict_batch(frames)])
            spread = np.ptp(logits, -1).mean()
            assert np.abs(found - logits).max() <= 1e-4 * spread
            baked = onnxruntime.InferenceSession(
                made.with_name(f"all-{task}.onnx"), providers=["CPUExecutionProvider"]
            )
            (plain,) = baked.run(["logits"], {"pixels": pixels})
            assert np.abs(plain - logits).max() <= 1e-4 * spread
            recorded = json.loads(baked.get_modelmeta().custom_metadata_map["preprocess"])
            assert recorded["resize"] == TASKS[task].get("resize", "squash")
            assert session.base_sha256() == manifest.tensors.sha256


def test_only_what_changed_the_encoder_has_an_unadapted_model_to_be_near_to(made):
    report = Bundle.open(made).manifest.report
    near = {task: row["distance_base"] is not None for task, row in report.items()}
    assert near == {task: task in ("a-c", "c-a", "c-p", "c-r") for task in TASKS}
    for task, row in report.items():
        assert not near[task] or row["distance_base"] > 100 * row["distance_merged"]


def test_a_mixed_bundle_verifies_again_but_not_with_another_tasks_tokens(world, paths, made):
    artifacts = paths["a-c"].parents[3]
    rows = verify_bundle(made, artifacts, tasks=("c-a", "a-p"), images=ImagePaths(world.images))
    assert [row.comparison.agreement for row in rows] == [1.0, 1.0]
    other = {"backend": "openvino", "strategy": "engines", "threads": 1}
    again = verify_bundle(
        made, artifacts, tasks=("c-a", "a-p"), images=ImagePaths(world.images), session=other
    )
    assert [row.comparison.agreement for row in again] == [1.0, 1.0]
    assert again[0].comparison.max_difference != rows[0].comparison.max_difference
    with Session.open(made, threads=1) as session:
        session.switch("c-p")
        one = session._load("c-a")
        key = session.bundle.entry("c-a").file.sha256
        swapped = replace(one, tokens=session._held.task.tokens)
        session._cache._lru._tasks[key] = swapped
        session.switch("c-a")
        from export.verification.images import sample
        from export.verification.verifier import Verifier

        artifact = Artifact.load(paths["c-a"])
        clip = clips.load(artifact.config["model"], artifact.config["pretrained"])
        pictures = sample(artifact, world.images)
        with pytest.raises(VerifyError, match="task 'c-a' in fp32"):
            verifier = Verifier(clip, artifact, pictures, "fp32", lambda what, done, total: None)
            verifier.check(session.infer, "swapped")


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_mixed_bundle_of_low_precision_holds_its_tokens_in_it(world, paths, tmp_path, precision):
    chosen = [paths[task] for task in ("a-p", "c-a")]
    rows = export_bundle(
        chosen, tmp_path / "low", precision=precision, images=ImagePaths(world.images)
    )
    opened = Bundle.open(tmp_path / "low")
    tokens = opened.task("c-a", opened.weights().layout).tokens
    exact = Artifact.load(paths["c-a"]).tokens
    for name, array in tokens.items():
        assert array.dtype == (np.float16 if precision == "fp16" else np.float32)
        assert np.abs(array - exact[name]).max() <= np.abs(exact[name]).max() * 2.0**-8
    assert all(row.comparison.agreement >= 0.98 for row in rows)


def test_the_order_of_tasks_does_not_change_the_graphs(world, paths, made, tmp_path):
    few = [paths[task] for task in ("c-r", "c-p", "c-a")]
    export_bundle(few, tmp_path / "o", images=ImagePaths(world.images), max_images=3)
    graphs = {e.graph.sha256 for e in Bundle.open(tmp_path / "o").manifest.encoders}
    assert graphs < {e.graph.sha256 for e in Bundle.open(made).manifest.encoders}


def test_a_task_with_tokens_on_a_resnet_is_refused(world, tmp_path):
    path = world.train("p-r", root=tmp_path / "artifacts", **FROZEN, prompts=(1, 2))
    with pytest.raises(BaseModelError, match="which only a vision transformer takes"):
        export_bundle([path], tmp_path / "o", images=ImagePaths(world.images))
    assert not (tmp_path / "o").exists()
