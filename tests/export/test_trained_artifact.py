"""From real training to the session that a device opens, on the demo's handwritten digits."""

import numpy as np
import onnxruntime
import pytest

from adapt import data
from adapt.artifacts.merge import load_merged
from adapt.clip import model as clips
from adapt.compute.inference import predict
from adapt.methods.cmkd import CMKDConfig
from adapt.training.train import train
from export.pipeline import export_bundle
from export.verification.images import sample
from runtime import patch
from runtime.frames.preprocess import preprocess, read_image
from runtime.sessions.session import Session

CONFIG = CMKDConfig(
    model="demo-rn32",
    pretrained="demo",
    batch_size=16,
    epochs=2,
    iterations=5,
    lr=3e-4,
    head_lr_multiplier=10.0,
    rst=True,
    rst_threshold=2.5e-5,
    train_size=32,
    pad=2,
    flip=False,
    prompt="an image of the number {}",
    ramp_iterations=10,
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Both directions between printed and handwritten digits, trained for ten steps each."""
    out = tmp_path_factory.mktemp("trained")
    tasks = ("f-h", "h-f")
    return {name: train("cmkd", data.load("demo-digits", name), CONFIG, out=out) for name in tasks}


def test_trained_tasks_answer_in_a_session_as_in_pytorch(trained, tmp_path):
    out = tmp_path / "digits.bundle"
    export_bundle([run.path for run in trained.values()], out, baked=True, max_images=200)
    clip = clips.load("demo-rn32", "demo")
    with Session.open(out, threads=1) as session:
        digest = session.base_sha256()
        assert digest == session.bundle.manifest.tensors.sha256
        for name in (*trained, *trained):
            artifact = trained[name].artifact
            assert 0 < patch.size(artifact.residual) < artifact.parameters
            files = data.load("demo-digits", name).test.paths[::5]
            frames = [read_image(file) for file in files]
            pixels = np.stack([preprocess(frame, artifact.preprocess) for frame in frames])
            encoder, head = load_merged(clip, artifact), artifact.build_head()
            expected = predict(
                lambda images, encoder=encoder, head=head: head(encoder(images)),
                pixels,
                64,
                mean=clip.mean,
                std=clip.std,
            ).numpy()
            session.switch(name)
            assert session.base_sha256() == digest
            answers = session.predict_batch(frames)
            found = np.stack([answer.logits for answer in answers])
            baked = onnxruntime.InferenceSession(
                tmp_path / f"digits-{name}.onnx", providers=["CPUExecutionProvider"]
            ).run(["logits"], {"pixels": pixels})[0]
            spread = np.ptp(expected, 1).mean()
            for logits in (found, baked):
                assert np.abs(logits - expected).max() <= 1e-4 * spread
                assert np.array_equal(logits.argmax(1), expected.argmax(1))
            labels = [artifact.task.classes[i] for i in expected.argmax(1)]
            assert [answer.label for answer in answers] == labels


def test_images_that_verify_a_trained_task_are_its_test_images(trained):
    artifact = trained["f-h"].artifact
    found = sample(artifact, None)
    assert found.available == len(data.load("demo-digits", "f-h").test) == len(found.pixels)
    assert set(found.labels.tolist()) == set(range(10))
