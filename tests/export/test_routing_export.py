"""What the export adds so that a device can choose tasks, on artifacts of small bases."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import runtime
from adapt.artifacts import base_features
from adapt.artifacts.artifact import Artifact
from adapt.artifacts.merge import load_base
from export.contents import make_contents
from export.pipeline import export_bundle
from export.routing import routable, whitening_of
from export.sources import Source
from export.verification.images import ImagePaths
from runtime.bundles import manifest
from runtime.bundles.bundle import Bundle
from runtime.errors import FormatError
from runtime.frames.preprocess import read_pixels
from runtime.monitoring import routing, whitening
from runtime.monitoring.gaussian import unit
from tests.export.helpers import torch_features

LOW = {"fp32": 2e-4, "fp16": 4e-3, "bf16": 3e-2}


def tinted(world, task, count=80):
    """Return images of a task's own tint, in one grey world."""
    rng = np.random.default_rng(sum(map(ord, task)))
    tint = rng.uniform(0.3, 1, 3)
    small = rng.integers(0, 256, (count, 8, 8, 3))
    large = small.repeat(4, 1).repeat(4, 2)
    return (large * tint).astype(np.uint8)


def carrying(world, path, folder, images=None):
    """Write a copy of an artifact that carries base features of its own images."""
    artifact = Artifact.load(path)
    clip = load_base(artifact)
    pixels = tinted(world, artifact.task.id) if images is None else images
    features = torch_features(clip.visual, pixels)
    tensors = {f"{base_features.MEMBER}.features": features.astype(np.float16)}
    made = replace(
        artifact, optional={base_features.MEMBER: {"version": 1}}, optional_tensors=tensors
    )
    file = folder / artifact.task.id / path.parent.name / "artifact.safetensors"
    file.parent.mkdir(parents=True, exist_ok=True)
    made.save(file)
    return file


@pytest.fixture(scope="module")
def trained(world, tmp_path_factory):
    """Artifacts of two tasks of a ResNet, and of one with tokens and one without of a ViT."""
    folder = tmp_path_factory.mktemp("routed")
    find = {path.parent.parent.name: path for path in world.artifacts.glob("*/*/*/artifact.*")}
    ekda = world.train("k-l", base="demo-vit32", share=0, root=folder / "plain", prompts=(2, 3))
    return {task: carrying(world, path, folder) for task, path in {**find, "k-l": ekda}.items()}


def bundle_of(paths, folder, precision="fp32"):
    sources = [Source.read(path) for path in paths]
    clip = load_base(sources[0].artifact)
    contents = make_contents(clip, sources, precision, lambda what, done, total: None)
    out = folder / f"{precision}.bundle"
    contents.write(out, manifest.SCHEMA, {})
    return out, clip


def test_a_bundle_carries_the_whitening_of_all_its_tasks(world, trained, tmp_path):
    paths = [trained["p-a"], trained["c-r"]]
    out, _ = bundle_of(paths, tmp_path)
    opened = Bundle.open(out)
    ref = opened.optional_file(whitening.MEMBER)
    found = whitening.Whitening.decode(opened.optional(ref), out / ref.path)
    features = routable([Artifact.load(path) for path in paths])
    kept = [rows[~routing.sampled(len(rows))] for rows in features.values()]
    assert [len(rows) for rows in kept] == [60, 60]
    np.testing.assert_allclose(
        found.factor, whitening.fit(kept).factor, rtol=1e-3, atol=1e-3 * found.factor.max()
    )
    for task, rows in features.items():
        own = routing.read(*opened.members(opened.entry(task))[:2])
        assert own.centres.shape == (routing.CENTRES, rows.shape[1]) and len(own.sample) == 20
        np.testing.assert_allclose(own.sample, rows[routing.sampled(len(rows))], atol=1e-3)
    again, _ = bundle_of(paths, tmp_path / "again")
    assert (again / "manifest.json").read_bytes() == (out / "manifest.json").read_bytes()


@pytest.mark.parametrize("precision", LOW)
@pytest.mark.parametrize("strategy", ["patch", "engines"])
def test_a_device_recognises_each_tasks_images(world, trained, tmp_path, precision, strategy):
    out, clip = bundle_of([trained["p-a"], trained["c-r"]], tmp_path, precision)
    with runtime.Session.open(out, threads=1, strategy=strategy) as session:
        for task in session.tasks:
            pixels = tinted(world, task)[::8]
            want = torch_features(clip.visual, pixels)
            found = session.base_features(list(pixels), task)
            np.testing.assert_allclose(unit(found), unit(want), atol=LOW[precision])
            routes = [session.route(frame)[0] for frame in pixels]
            assert sum(route.task == task for route in routes) >= 9
            chosen = session.predict_batch(list(pixels), runtime.Router())
            assert [each.task for each in chosen[5:]] == [task] * 5
        assert session.base_sha256() == session.bundle.manifest.tensors.sha256


def test_a_bundle_of_tasks_with_tokens_alone_has_the_bare_encoder_too(world, trained, tmp_path):
    out, clip = bundle_of([trained["k-l"]], tmp_path)
    encoders = Bundle.open(out).manifest.encoders
    assert sorted(len(encoder.tokens) for encoder in encoders) == [0, 2]
    for strategy in ("patch", "engines"):
        with runtime.Session.open(out, threads=1, strategy=strategy) as session:
            pixels = tinted(world, "k-l", 10)
            want = torch_features(clip.visual, pixels)
            before = session.predict_batch(list(pixels))
            np.testing.assert_allclose(session.base_features(list(pixels)), want, atol=1e-4)
            assert session.predict_batch(list(pixels), "auto") == before
            (route,) = session.route(pixels[0])
            assert (route.task, route.margin) == ("k-l", None)


def test_schema_2_which_cannot_route_has_the_encoder_with_tokens_alone(trained, tmp_path):
    for tasks, counts in ((["k-l"], [2]), (["k-l", "a-c"], [0, 2])):
        sources = [Source.read(trained[task]) for task in tasks]
        contents = make_contents(load_base(sources[0].artifact), sources, "fp32", print)
        contents.write(tmp_path / "old.bundle", manifest.WRITTEN[0], {})
        found = Bundle.open(tmp_path / "old.bundle").manifest
        assert (found.schema, found.optional) == (2, {})
        assert sorted(len(encoder.tokens) for encoder in found.encoders) == counts


def test_tokens_need_no_second_bare_encoder_beside_a_task_without(world, trained, tmp_path):
    out, _ = bundle_of([trained["k-l"], trained["a-c"]], tmp_path)
    assert len(Bundle.open(out).manifest.encoders) == 2


def test_artifacts_without_base_features_make_the_bundle_that_they_made(world, tmp_path):
    path = next(world.artifacts.glob("*/p-a/*/artifact.*"))
    out, _ = bundle_of([path], tmp_path)
    opened = Bundle.open(out)
    assert opened.manifest.optional == {} and len(opened.manifest.encoders) == 1
    assert opened.members(opened.entry("p-a"))[0] == {}


def test_some_tasks_may_lack_them(world, trained, tmp_path):
    plain = next(world.artifacts.glob("*/c-r/*/artifact.*"))
    out, _ = bundle_of([trained["p-a"], plain], tmp_path)
    with runtime.Session.open(out, threads=1) as session:
        assert [route.task for route in session.route(tinted(world, "p-a", 1)[0])] == ["p-a"]


def test_a_published_bundle_agrees_with_pytorch_as_before(world, trained, tmp_path):
    images = ImagePaths(world.images)
    rows = export_bundle([trained["p-a"]], tmp_path / "b.bundle", images=images, max_images=6)
    assert rows[0].comparison.agreement == 1
    assert Bundle.open(tmp_path / "b.bundle").optional_file(whitening.MEMBER) is not None


@pytest.mark.parametrize(
    "array",
    [
        None,
        np.zeros((30, 4), np.float16),
        np.ones((19, 4), np.float16),
        np.full((30, 4), np.nan, np.float16),
        np.ones((30, 4), np.float64),
        np.ones(30, np.float16),
    ],
)
def test_damaged_base_features_are_refused(trained, array):
    artifact = Artifact.load(trained["p-a"])
    tensors = {} if array is None else {f"{base_features.MEMBER}.features": array}
    with pytest.raises(FormatError, match="'base_features' of the artifact of task 'p-a' is damag"):
        base_features.read(replace(artifact, optional_tensors=tensors))


def test_other_versions_are_ignored_and_sizes_must_agree(trained):
    artifact = Artifact.load(trained["p-a"])
    assert (
        base_features.read(replace(artifact, optional={base_features.MEMBER: {"version": 2}}))
        is None
    )
    other = replace(
        Artifact.load(trained["c-r"]),
        optional_tensors={f"{base_features.MEMBER}.features": np.ones((30, 4), np.float16)},
    )
    with pytest.raises(FormatError, match="features of different sizes"):
        routable([artifact, other])


def test_features_of_training_are_those_of_the_device(world, trained, tmp_path):
    """Read from files, resized by the one implementation, through PyTorch and the graph."""
    out, clip = bundle_of([trained["p-a"]], tmp_path)
    artifact = Artifact.load(trained["p-a"])
    files = sorted(world.images.glob("*/1*.png"))
    pixels = np.stack([read_pixels(file, artifact.preprocess) for file in files])
    with torch.no_grad(), runtime.Session.open(out, threads=1) as session:
        want = torch_features(clip.visual, pixels)
        np.testing.assert_allclose(session.base_features(files), want, rtol=2e-4, atol=1e-4)
    assert isinstance(whitening_of(routable([artifact])), whitening.Whitening)
