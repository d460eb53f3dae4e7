"""From artifacts to a camera: bundles whose tasks are routed, watched for drift, and harvested."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import runtime
from adapt.artifacts.artifact import Artifact
from adapt.artifacts.merge import load_base
from adapt.data.base import UNKNOWN, ImageSet
from adapt.evaluation.statistics import with_statistics
from export.contents import make_contents
from export.sources import Source
from runtime.bundles import manifest
from runtime.bundles.bundle import Bundle
from runtime.monitoring import harvested, whitening
from tests.export.test_routing_export import tinted

CPU = torch.device("cpu")
BASES = {"demo-rn32": ("p-a", "c-r", "d-n"), "demo-vit32": ("a-c", "e-f", "g-h")}
"""Tasks by base; the last one is installed later."""
OWN = 60
"""Images of each task."""


@pytest.fixture(scope="module")
def clips():
    return {}


def artifact_of(world, base, task, folder, clips):
    """Write an artifact with statistics of its task's own images, as the end of training does."""
    there = [*world.artifacts.glob(f"*/{task}/*/artifact.*")]
    path = there[0] if there else world.train(task, base=base, seed=5, root=folder / "trained")
    artifact = Artifact.load(path)
    images = folder / "images" / task
    images.mkdir(parents=True)
    for index, frame in enumerate(tinted(world, task, OWN)):
        Image.fromarray(frame).save(images / f"{index:03}.png")
    files = tuple(sorted(images.iterdir()))
    own = ImageSet(files, np.full(len(files), UNKNOWN), (), task)
    clip = clips.get(base) or clips.setdefault(base, load_base(artifact))
    file = folder / task / path.name
    file.parent.mkdir()
    with_statistics(artifact, own, CPU, clip).save(file)
    return file


def write(paths, out, precision, clip):
    """Write a bundle, and beside it the same one whose tasks carry nothing."""
    sources = [Source.read(path) for path in paths]
    contents = make_contents(clip, sources, precision, lambda what, done, total: None)
    bare = [replace(task, optional={}, optional_tensors={}) for task in contents.tasks]
    plain = out.with_suffix(".plain")
    contents.write(out, manifest.SCHEMA, {})
    replace(contents, tasks=bare, whitening=None).write(plain, manifest.SCHEMA, {})
    return out, plain


@pytest.mark.parametrize(("base", "precision"), [("demo-rn32", "fp32"), ("demo-vit32", "bf16")])
def test_a_camera_is_routed_watched_and_harvested(world, clips, tmp_path, base, precision):
    one, other, later = BASES[base]
    paths = [artifact_of(world, base, task, tmp_path, clips) for task in BASES[base]]
    both = write(paths[:2], tmp_path / "both.bundle", precision, clips[base])
    alone = write(paths[2:], tmp_path / "alone.bundle", precision, clips[base])
    path, shared = both[0], Bundle.open(both[0]).optional_file(whitening.MEMBER)
    monitor, router = runtime.DriftMonitor(every=1), runtime.Router()
    with (
        runtime.Session.open(path, threads=1) as session,
        runtime.Session.open(both[1], threads=1) as without,
        runtime.Harvester(tmp_path / "gate", every=1) as harvester,
    ):

        def see(frames):
            """Show frames to the camera; return the predictions and what the monitor says."""
            made, states = [], []
            for frame in frames:
                found = session.predict(frame, router)
                want = without.predict(frame, found.task)
                assert found.label == want.label and (want.novelty, want.route) == (None, None)
                np.testing.assert_array_equal(found.logits, want.logits)
                made.append(found)
                states.append(monitor.see(found))
                harvester.offer(frame, found, wait=True)
            return made, states

        made, states = see(tinted(world, one, OWN + 45)[OWN:])
        assert states[0].state == "not enough frames yet" and states[-1].state == "steady"
        assert {found.task for found in made[5:]} == {one} == {router.task}
        made, _ = see(tinted(world, other, OWN + 20)[OWN:])
        assert made[-1].task == router.task == other and made[-1].known
        strange = tinted(world, later, OWN + 50)[OWN:]
        made, states = see(strange[:25])
        assert router.task is None and not made[-1].route.known
        assert "drifting" in {state.state for state in states}

        for content, bundle in zip(alone, both, strict=True):
            runtime.install(bundle, content / Bundle.open(content).entry(later).file.path)
        session.refresh()
        without.refresh()
        assert session.bundle.optional_file(whitening.MEMBER) == shared
        assert Bundle.open(alone[0]).optional_file(whitening.MEMBER) != shared
        assert {session.route(frame)[0].task for frame in strange[:5]} == {later}
        made, states = see(strange[25:])
        assert {found.task for found in made[5:]} == {later} and made[-1].route.known
        assert states[-1].task == later and "drifting" not in {state.state for state in states}
        assert session.base_sha256() == session.bundle.manifest.tensors.sha256
        harvester.flush()
        assert min(harvester.counts().values()) > 0
    entries = harvested.read(tmp_path / "gate")
    assert {entry.task for entry in entries} >= {one, other}
    for entry in entries:
        content = (tmp_path / "gate" / entry.part / entry.file).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry.sha256
