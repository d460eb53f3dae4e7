"""Every method that can be trained is run by a device, on both families of encoders."""

import shutil

import numpy as np
import pytest

from adapt import methods
from adapt.artifacts.merge import Network
from adapt.clip import model as clips
from adapt.compute.inference import predict
from adapt.data import load_folders
from adapt.training.train import train
from export.pipeline import export_bundle
from export.verification.images import ImagePaths
from runtime.frames.preprocess import preprocess, read_image
from runtime.sessions.session import Session

SETTINGS = {
    "batch_size": 6,
    "epochs": 1,
    "iterations": 2,
    "lr": 1e-3,
    "train_size": 32,
    "prompt": "a photo of a {}",
    "teacher": "demo-vit32",
    "teacher_pretrained": "demo",
    "templates": "prompt",
}


@pytest.fixture(scope="module")
def domains(world, tmp_path_factory):
    """A source and one target per method, each with the same images, so that tasks differ."""
    root = tmp_path_factory.mktemp("every") / "shapes"
    for name in ("source", *methods.METHODS):
        shutil.copytree(world.images, root / name)
    return root


@pytest.mark.parametrize("model", ["demo-vit32", "demo-rn32"])
def test_tasks_of_every_method_share_a_bundle_that_answers_as_training_does(
    domains, model, tmp_path, monkeypatch
):
    monkeypatch.setenv("UDA_CACHE", str(tmp_path / "cache"))
    runs = {}
    for name in methods.METHODS:
        cls = methods.get(name).Config
        known = {k: v for k, v in SETTINGS.items() if k in cls.__dataclass_fields__}
        known["rst"] = name in ("cmkd", "source_only")  # a patch of all weights takes long to pack
        config = cls(model=model, pretrained="demo", **known)
        pair = load_folders(domains, "source", name)
        runs[pair.task.id] = train(name, pair, config, out=tmp_path / "artifacts")
    out = tmp_path / "every.bundle"
    rows = export_bundle(
        [run.path for run in runs.values()],
        out,
        images=ImagePaths(domains / "source"),
        max_images=6,
    )
    assert {row.record.variant.removesuffix("-rst") for row in rows} == {*methods.METHODS}
    clip = clips.load(model, "demo")
    frames = [read_image(file) for file in sorted(domains.glob("source/*/1*.png"))]
    with Session.open(out, threads=1) as session:
        prompted = [len(encoder.tokens) for encoder in session.bundle.manifest.encoders]
        assert sorted(prompted) == ([0, 4] if model == "demo-vit32" else [0])
        for task, run in (*runs.items(), *runs.items()):
            session.switch(task)
            spec = run.artifact.preprocess
            pixels = np.stack([preprocess(frame, spec) for frame in frames])
            network = Network.of(clip, run.artifact)
            expected = predict(network, pixels, 16, mean=clip.mean, std=clip.std).numpy()
            found = np.stack([answer.logits for answer in session.predict_batch(frames)])
            assert np.abs(found - expected).max() <= 1e-4 * np.ptp(expected, 1).mean()
        assert session.base_sha256() == session.bundle.manifest.tensors.sha256
