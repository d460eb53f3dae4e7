"""Temperatures from images that a person sorted, and how far scores can be trusted with them."""

from __future__ import annotations

import json
import re
import resource
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from adapt.artifacts import store
from adapt.artifacts.artifact import Artifact
from adapt.data import DomainPair, load_folders
from adapt.evaluation.calibrate import keep
from adapt.evaluation.compare import compare
from adapt.evaluation.predictions import Predictions
from adapt.evaluation.spot_check import collect, draw
from adapt.evaluation.spot_score import Temperature
from adapt.evaluation.trust import COVERAGES, trust
from adapt.methods.cmkd import CMKDConfig
from adapt.methods.zero_shot import ZeroShotConfig
from adapt.training.train import train
from export.pipeline import export_bundle
from runtime.errors import ConfigError, DataError
from runtime.monitoring import confidence
from runtime.monitoring.confidence import Calibration, fit
from runtime.sessions.session import Session
from runtime.storage.files import sha256
from runtime.storage.locks import exclusive
from tests.adapt.conftest import draw as draw_images
from tests.adapt.test_spot_check import call, sort
from tests.users import in_child

SHORT = {"model": "demo-rn32", "pretrained": "demo"}


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with 60 images in its target."""
    root = tmp_path_factory.mktemp("many") / "street"
    draw_images(root, "day", 60)
    draw_images(root, "night", 10, count=20)
    return root


@pytest.fixture(scope="module")
def many(street: Path, uda_cache: Path) -> DomainPair:
    return load_folders(street, "day", "night")


@pytest.fixture
def trained(made: Path, tmp_path: Path) -> Path:
    """Artifacts of CMKD and of zero-shot CLIP, to be changed."""
    for file in sorted(made.rglob(store.FILE)):
        (tmp_path / "artifacts" / file.relative_to(made)).parent.mkdir(parents=True)
        (tmp_path / "artifacts" / file.relative_to(made)).write_bytes(file.read_bytes())
    return tmp_path / "artifacts"


@pytest.fixture(scope="module")
def made(many: DomainPair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("artifacts")
    cmkd = CMKDConfig(
        **SHORT, batch_size=8, epochs=1, iterations=6, head_lr_multiplier=10.0, train_size=36,
        rst=True, rst_threshold=1e-4,
    )  # fmt: skip
    train("cmkd", many, cmkd, out=out)
    train("zero_shot", many, ZeroShotConfig(**SHORT), out=out)
    return out


def files_of(root: Path, pair: DomainPair) -> dict[str, Path]:
    return store.variants(root, pair.task.dataset, pair.task.id)


def test_fifty_sorted_images_calibrate_every_artifact_from_score_to_device(
    many: DomainPair, trained: Path, tmp_path: Path
) -> None:
    files = files_of(trained, many)
    export_bundle([files["cmkd-rst"]], tmp_path / "before.bundle", max_images=9)
    before = {name: Artifact.load(path) for name, path in files.items()}
    draw(many, 55, 0, tmp_path / "check")
    sort(tmp_path / "check", many, 52)
    out = tmp_path / "score.json"
    done = call("spot-check", "score", tmp_path / "check", "--artifacts", trained, "--json", out)
    assert done.exit_code == 0, done.output
    temperatures = {row["variant"]: row for row in json.loads(out.read_text())["temperatures"]}
    assert temperatures.keys() == files.keys() == {"cmkd-rst", "zero_shot"}
    sorting = collect(tmp_path / "check")
    for name, path in files.items():
        artifact, row = Artifact.load(path), temperatures[name]
        found = confidence.read(artifact.optional)
        assert found == Calibration(row["temperature"], 52)
        assert f"{name}: temperature {found.temperature:.2f} of 52 sorted images" in done.stdout
        plain = {k: v for k, v in artifact.optional.items() if k != confidence.MEMBER}
        assert plain == before[name].optional
        assert artifact.head_tensors.keys() == before[name].head_tensors.keys()
        for tensor, array in artifact.head_tensors.items():
            np.testing.assert_array_equal(array, before[name].head_tensors[tensor])
    assert len(sorting.paths) == 52
    export_bundle([files["cmkd-rst"]], tmp_path / "after.bundle", max_images=9)
    with (
        Session.open(tmp_path / "before.bundle", threads=1) as old,
        Session.open(tmp_path / "after.bundle", threads=1) as new,
    ):
        frames = [str(path) for path in sorting.paths]
        want, answers = old.predict_batch(frames), new.predict_batch(frames)
        assert want == answers
        assert {p.calibration for p in want} == {"uncalibrated"}
        assert {p.calibration for p in answers} == {"52 sorted images"}
        again = fit(np.stack([p.logits for p in answers]), sorting.labels)
        given = temperatures["cmkd-rst"]["temperature"]
        assert again.temperature == pytest.approx(given, rel=1e-3)


def test_fewer_sorted_images_leave_the_artifacts_alone(
    many: DomainPair, trained: Path, tmp_path: Path
) -> None:
    contents = {path: path.read_bytes() for path in files_of(trained, many).values()}
    draw(many, 55, 0, tmp_path / "check")
    sort(tmp_path / "check", many, 49)
    done = call("spot-check", "score", tmp_path / "check", "--artifacts", trained)
    assert done.exit_code == 0, done.output
    assert "uncalibrated: it takes 50 sorted images, 49 are" in done.stdout
    assert all(path.read_bytes() == content for path, content in contents.items())


def test_a_temperature_of_more_images_stays(many: DomainPair, trained: Path) -> None:
    path = files_of(trained, many)["cmkd-rst"]

    def kept(temperature: float, images: int) -> Calibration:
        found = Temperature("cmkd-rst", temperature, images, sha256(path.read_bytes()))
        return keep(found, trained, many.task)

    assert kept(1.5, 60) == Calibration(1.5, 60)
    assert kept(2.5, 50) == Calibration(1.5, 60)
    assert kept(0.5, 60) == Calibration(0.5, 60)
    assert confidence.read(Artifact.load(path).optional) == Calibration(0.5, 60)


def test_an_artifact_that_was_trained_again_or_is_being_trained_is_left_alone(
    many: DomainPair, trained: Path
) -> None:
    path = files_of(trained, many)["cmkd-rst"]
    content = path.read_bytes()
    found = Temperature("cmkd-rst", 1.5, 60, "0" * 64)
    with pytest.raises(DataError, match="has changed since it was scored; score again"):
        keep(found, trained, many.task)
    found = replace(found, artifact=sha256(content))
    with (
        exclusive(path.parent / store.LOCK),
        pytest.raises(ConfigError, match="is training '.*'; score again when it has ended"),
    ):
        keep(found, trained, many.task)
    assert path.read_bytes() == content


def test_a_full_disk_leaves_an_artifact_as_it_was(many: DomainPair, trained: Path) -> None:
    path = files_of(trained, many)["cmkd-rst"]
    content = path.read_bytes()
    found = Temperature("cmkd-rst", 1.5, 60, sha256(content))

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    assert in_child(limit, lambda: keep(found, trained, many.task)).startswith("StorageError: ")
    assert path.read_bytes() == content
    assert [p.name for p in path.parent.iterdir() if p.name.startswith(".")] == []


def test_eval_says_how_far_scores_can_be_trusted(
    many: DomainPair, trained: Path, tmp_path: Path
) -> None:
    files = files_of(trained, many)
    settings = Artifact.load(files["zero_shot"]).config
    before = {line.variant: line for line in compare(many, files, settings)}
    digest = sha256(files["cmkd-rst"].read_bytes())
    keep(Temperature("cmkd-rst", 4.0, 60, digest), trained, many.task)
    after = {line.variant: line for line in compare(many, files, settings)}
    assert after["zero_shot"].trust == before["zero_shot"].trust
    old, new = before["cmkd-rst"], after["cmkd-rst"]
    assert old.trust is not None and new.trust is not None
    assert (old.trust.calibration, new.trust.calibration) == ("uncalibrated", "60 sorted images")
    assert new.trust.ece != old.trust.ece and new.accuracy == old.accuracy
    assert (new.predictions.confidences < old.predictions.confidences).all()
    np.testing.assert_array_equal(new.predictions.scores, old.predictions.scores)
    assert new.trust.accuracies[0] == (100.0, pytest.approx(new.accuracy))
    out = tmp_path / "eval.json"
    words = ("--artifacts", trained, "--method", "cmkd-rst", "--json", out)
    done = call("eval", *words)
    assert done.exit_code == 0, done.output
    assert "calibrated cmkd-rst (60 sorted images)" in done.stdout
    shown = call("inspect", files["cmkd-rst"]).stdout
    assert "scores    temperature 4.00, from 60 sorted images" in shown
    assert "monitored by statistics of 60 target images" in shown
    assert "routing   from 60 target images" in shown
    assert re.search(r"^drift     threshold \d+\.\d, for 2 false alarms in 100,000", shown, re.M)
    plain = call("inspect", files["zero_shot"]).stdout
    assert "scores    uncalibrated" in plain
    assert "cmkd-rst, if only the surest predictions count:" in done.stdout
    rows = {row["variant"]: row for row in json.loads(out.read_text())["variants"]}
    assert rows["cmkd-rst"]["trust"]["ece"] == pytest.approx(new.trust.ece)
    assert f"{new.trust.ece:.1f}" in done.stdout


def test_trust_counts_labelled_images_alone() -> None:
    logits = torch.randn(60, 4, generator=torch.Generator().manual_seed(1))
    labels = np.arange(60) % 4
    labels[::3] = -1
    found = Predictions.of(logits, np.arange(60))
    part = Predictions.of(logits[labels >= 0], np.arange(40))
    assert trust(found, labels, None) == trust(part, labels[labels >= 0], None)
    assert trust(found, np.full(60, -1), None) is None
    only = trust(found, np.where(np.arange(60) == 1, 1, -1), None)
    assert only is not None and len(only.accuracies) == len(COVERAGES)
