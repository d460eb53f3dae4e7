"""Transparent images of every mode: training, export and device see the same pixels."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

import runtime
from adapt.artifacts.artifact import Artifact
from adapt.cli import main as adapt_main
from adapt.data import cache, load_folders
from adapt.methods.linear_probe import LinearProbeConfig
from adapt.training.train import train
from export.cli import main
from export.verification.images import sample
from runtime.cli import main as runtime_main
from runtime.frames.preprocess import preprocess, read_image
from runtime.models import Preprocess
from tests.images import OPAQUE, TRANSPARENT, laid_on

FILES = {n: w for n, w in (TRANSPARENT | OPAQUE).items() if not n.endswith((".tga", ".pgm"))}
CONFIG = LinearProbeConfig(
    model="demo-rn32", pretrained="demo", train_size=36, epochs=1, iterations=2, batch_size=4
)


def run(command, *arguments):
    done = CliRunner().invoke(command, [str(a) for a in arguments])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Two domains of all kinds of files, and the pixels that are in each."""
    root, truth = tmp_path_factory.mktemp("shop"), {}
    for domain in ("day", "night"):
        for name in ("cup", "key"):
            (root / domain / name).mkdir(parents=True)
            for file, write in FILES.items():
                path = root / domain / name / file
                truth[path] = write(path)
    return root, truth


@pytest.fixture(params=["white", "drop"])
def trained(request, shop, tmp_path, monkeypatch):
    monkeypatch.setenv("UDA_CACHE", str(tmp_path / "cache"))
    config = replace(CONFIG, background=request.param)
    pair = load_folders(shop[0], "day", "night")
    return config, train("linear_probe", pair, config, out=tmp_path / "artifacts"), pair


def test_every_mode_gives_the_same_pixels_everywhere(trained, shop, tmp_path):
    (config, done, pair), (root, truth) = trained, shop
    how = Preprocess(32, config.resize, config.interpolation)
    out, background = tmp_path / "x.bundle", config.background
    expected = {path: preprocess(laid_on(known, background), how) for path, known in truth.items()}
    # What training and its evaluation saw, and nothing but that, lies in the cache.
    before = {file: file.read_bytes() for file in (tmp_path / "cache/pixels").iterdir()}
    for images in (pair.source, pair.test):
        seen = cache.pixels(images, 32, config.resize, config.interpolation, background)
        assert seen.skipped == ()
        for path, pixels in zip(images.paths, seen.images, strict=True):
            np.testing.assert_array_equal(pixels, expected[path], str(path))
    assert {file: file.read_bytes() for file in (tmp_path / "cache/pixels").iterdir()} == before
    artifact = Artifact.load(done.path)
    for pixels, path in zip(sample(artifact, root / "night").pixels, pair.test.paths, strict=True):
        np.testing.assert_array_equal(pixels, expected[path], str(path))
    where = ("--artifacts", tmp_path / "artifacts")
    task = ("--task", artifact.task.id, *where, "--images", root / "night", "--max-images", 9)
    run(main, "onnx", *task, "--out", out, "--baked")
    paths = pair.test.paths[: len(FILES)]
    run(runtime_main, "predict", out, *paths, "--json", tmp_path / "predictions.json")
    predictions = json.loads((tmp_path / "predictions.json").read_text())
    with runtime.Session.open(out, threads=1) as session:
        assert session.preprocess.background == background
        for path, row in zip(paths, predictions, strict=True):
            frame = read_image(path, background=session.preprocess.background)
            np.testing.assert_array_equal(preprocess(frame, session.preprocess), expected[path])
            logits = session.infer(expected[path][None])[0]
            best = artifact.task.classes[int(logits.argmax())]
            assert row["top"][0][0] == best and row["image"] == str(path)
    (baked,) = tmp_path.glob("*.onnx")
    recorded = {p.key: p.value for p in onnx.load(baked).metadata_props}["preprocess"]
    assert json.loads(recorded).get("background", "drop") == background
    old = ("onnx", *task, "--out", tmp_path / "old", "--schema", "2")
    refused = CliRunner().invoke(main, [str(a) for a in old])
    assert (refused.exit_code == 0) == (tmp_path / "old").exists() == (background == "drop")
    assert ("train it with --set background=drop" in refused.output) == (background != "drop")
    run(main, "verify", out, *where, "--images", root / "night", "--max-images", 9)
    own = ("--data", root, "--source", "day", "--target", "night")
    run(adapt_main, "eval", *own, *where)
