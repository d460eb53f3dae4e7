"""UniMoS and a linear probe from training to one bundle: two heads, one untouched encoder."""

import numpy as np
import pytest

from adapt import data
from adapt.clip import model as clips
from adapt.compute.inference import predict
from adapt.methods.linear_probe import LinearProbeConfig
from adapt.methods.unimos import UniMoSConfig
from adapt.training.train import train
from export.pipeline import export_bundle
from runtime.frames.preprocess import preprocess, read_image
from runtime.sessions.session import Session

SHARED = dict(
    model="demo-rn32",
    pretrained="demo",
    train_size=32,
    epochs=3,
    iterations=10,
    resize="squash",
    interpolation="bilinear",  # as the other tests, whose cached pixels it shares
)
CONFIGS = {
    "f-h": ("unimos", UniMoSConfig(**SHARED, temperature=22.0, prompt="the number {}")),
    "h-f": ("linear_probe", LinearProbeConfig(**SHARED, prompt="the number {}")),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("features")
    return {
        task: train(name, data.load("demo-digits", task), config, out=out)
        for task, (name, config) in CONFIGS.items()
    }


def test_methods_over_features_answer_in_a_session_as_in_pytorch(trained, tmp_path):
    out = tmp_path / "digits.bundle"
    export_bundle([run.path for run in trained.values()], out, max_images=100)
    clip = clips.load("demo-rn32", "demo")
    with Session.open(out, threads=1) as session:
        for task in (*trained, *trained):
            artifact = trained[task].artifact
            frames = [read_image(f) for f in data.load("demo-digits", task).test.paths[::9]]
            pixels = np.stack([preprocess(frame, artifact.preprocess) for frame in frames])
            features = predict(clip.visual, pixels, 64, mean=clip.mean, std=clip.std)
            x = features.double().numpy()
            x /= np.linalg.norm(x, axis=1, keepdims=True)
            tensors = artifact.head_tensors
            expected = x @ tensors["weight"].T.astype(float) + tensors["bias"]
            session.switch(task)
            found = np.stack([answer.logits for answer in session.predict_batch(frames)])
            assert np.abs(found - expected).max() <= 1e-4 * np.ptp(expected, 1).mean()
            assert np.array_equal(found.argmax(1), expected.argmax(1))
            assert not artifact.residual
