"""Every method that can be trained is run by a device, on both families of encoders."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import adapt
from adapt import methods
from adapt.artifacts.merge import load_base
from adapt.data import load_folders
from adapt.evaluation.variants import variants
from adapt.training.train import Run, train
from export.contents import make_contents
from export.pipeline import export_bundle
from export.sources import Source
from export.verification.images import ImagePaths
from runtime.bundles import manifest
from runtime.bundles.bundle import Bundle
from runtime.errors import DataError
from runtime.frames.preprocess import read_pixels
from runtime.monitoring.fit import task_statistics
from runtime.monitoring.gaussian import unit
from runtime.monitoring.statistics import read
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


@dataclass
class Every:
    """Runs of all methods on one base, and the bundle of their artifacts."""

    runs: dict[str, Run]
    """By method."""
    bundle: Path
    tasks: dict[str, str]
    """Ids by method."""


@pytest.fixture(scope="module", params=["demo-vit32", "demo-rn32"])
def every(request, domains, tmp_path_factory):
    folder, runs, tasks = tmp_path_factory.mktemp(request.param), {}, {}
    for name in methods.METHODS:
        cls = methods.get(name).Config
        known = {k: v for k, v in SETTINGS.items() if k in cls.__dataclass_fields__}
        known["rst"] = name in ("cmkd", "source_only")  # a patch of all weights takes long to pack
        config = cls(model=request.param, pretrained="demo", **known)
        pair = load_folders(domains, "source", name)
        runs[name] = train(name, pair, config, out=folder / "artifacts")
        tasks[name] = pair.task.id
    out = folder / "every.bundle"
    rows = export_bundle(
        [run.path for run in runs.values()],
        out,
        images=ImagePaths(domains / "source"),
        max_images=6,
    )
    assert {row.record.variant.removesuffix("-rst") for row in rows} == {*methods.METHODS}
    return Every(runs, out, tasks)


@pytest.fixture(scope="module")
def files(domains):
    return sorted(domains.glob("source/*/1*.png"))


@pytest.mark.parametrize("name", methods.METHODS)
def test_a_loaded_model_a_device_and_eval_give_the_same_answers(every, files, name, domains):
    run, task = every.runs[name], every.tasks[name]
    model = adapt.load(run.path.parent)
    logits = model.logits(files)
    expected, spread = logits.numpy(), np.ptp(logits.numpy(), 1).mean()
    with Session.open(every.bundle, threads=1) as session:
        session.switch(task)
        device = session.predict_batch(files)
        features = session.features(files)
    found = np.stack([answer.logits for answer in device])
    assert np.abs(found - expected).max() <= 1e-4 * spread
    np.testing.assert_allclose(model.encode_image(files), features, rtol=2e-4, atol=1e-4)
    assert model.class_names == device[0].classes
    for here, there in zip(model.classify(files), device, strict=True):
        assert (here.task, here.label) == (task, there.label)
        assert here.score == pytest.approx(there.score, abs=1e-4)
    settings = {**run.artifact.config, "model": run.artifact.base.architecture}
    *_, trained = variants(model.task, {f"{name}-again": run.path}, settings)
    pixels = np.stack([read_pixels(file, trained.preprocess) for file in files])
    assert torch.equal(trained.logits(pixels), logits)


def test_images_may_be_files_pictures_arrays_or_preprocessed_tensors(every, files):
    model = adapt.load(every.runs["cmkd"].path)
    pictures = [Image.open(file) for file in files]
    ready = torch.stack([model.preprocess(file) for file in files])
    expected = model.logits(files)
    for images in (pictures, [np.array(p.convert("RGB")) for p in pictures], ready):
        assert torch.equal(model.logits(images), expected)
    with torch.no_grad():
        torch.testing.assert_close(model.network(ready), expected)
    with pytest.raises(DataError, match=r"must be \(N, 3, 32, 32\) float32, found \(3, 32, 32\)"):
        model.encode_image(ready[0])
    with pytest.raises(DataError, match="expected at least one image, found none"):
        model.classify([])


def test_tasks_of_every_method_share_a_bundle_and_are_switched_between(every, files):
    with Session.open(every.bundle, threads=1) as session:
        prompted = {len(encoder.tokens) for encoder in session.bundle.manifest.encoders}
        vit = every.runs["ekda"].artifact.base.architecture == "demo-vit32"
        assert prompted == ({0, 4} if vit else {0})
        first = {}
        for task in (*every.tasks.values(), *every.tasks.values()):
            session.switch(task)
            found = np.stack([answer.logits for answer in session.predict_batch(files)])
            assert np.array_equal(first.setdefault(task, found), found)
        assert session.base_sha256() == session.bundle.manifest.tensors.sha256


def statistics_of(bundle, task, features):
    """Return the statistics that a bundle's task carries, and what they say of features."""
    opened = Bundle.open(bundle)
    content = opened.task(task, opened.layout())
    found = read(content.optional, content.optional_tensors, len(content.info.classes))
    return found, found.gaussian.distances(unit(features))


@pytest.mark.parametrize("name", methods.METHODS)
def test_training_writes_statistics_that_a_device_answers_from(every, files, name, domains):
    run, task = every.runs[name], every.tasks[name]
    model = adapt.load(run.path)
    own = sorted((domains / name).glob("*/*.png"))
    features = model.encode_image(own).numpy()
    predicted = model.logits(own).numpy().argmax(1)
    expected = task_statistics(features, predicted, len(model.class_names))
    found, distances = statistics_of(every.bundle, task, features)
    assert found.images == len(own) == 36
    np.testing.assert_allclose(found.distances, expected.distances, rtol=1e-3)
    np.testing.assert_allclose(found.affinities, expected.affinities, rtol=1e-3)
    np.testing.assert_allclose(
        distances, expected.gaussian.distances(unit(features)), rtol=2e-3, atol=1e-3
    )
    with Session.open(every.bundle, threads=1) as session:
        answers = session.predict_batch(files, task)
        seen = model.encode_image(files).numpy()
        step = 1.5 / found.images  # of two that are nearly equal, either may be the nearer
        assert [a.novelty for a in answers] == pytest.approx(found.novelty(seen), abs=step)
        assert [a.affinity for a in answers] == pytest.approx(found.affinity(seen), abs=1e-3)
    for here, there in zip(model.classify(files), answers, strict=True):
        assert here.novelty == pytest.approx(there.novelty, abs=step)
        assert here.known in (True, False)
        assert here.affinity == pytest.approx(there.affinity, abs=1e-3)
    assert not model.classify([np.zeros((40, 50, 3), np.uint8)])[0].known


@pytest.mark.parametrize(("precision", "tolerance"), [("fp16", 0.02), ("bf16", 0.08)])
def test_statistics_hold_for_a_bundle_of_lower_precision(
    every, files, tmp_path, precision, tolerance
):
    names = ("cmkd", "unimos", "ekda")
    sources = [Source.read(every.runs[name].path) for name in names]
    contents = make_contents(load_base(sources[0].artifact), sources, precision, print)
    contents.write(tmp_path / "low.bundle", manifest.SCHEMA, {})
    with Session.open(tmp_path / "low.bundle", threads=1) as session:
        for name in names:
            task = every.tasks[name]
            features = adapt.load(every.runs[name].path).encode_image(files).numpy()
            _, distances = statistics_of(every.bundle, task, features)
            found = session.predict_batch(files, task)
            own = found[0].statistics.gaussian.distances(
                unit(np.stack([f.features for f in found]))
            )
            np.testing.assert_allclose(own, distances, rtol=tolerance)
