"""Statistics that training leaves: of its target images, without their labels."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from adapt.artifacts import base_features
from adapt.artifacts.artifact import Artifact
from adapt.artifacts.merge import Network, load_base
from adapt.clip.model import Clip
from adapt.compute.inference import predict
from adapt.data import DomainPair
from adapt.data.base import UNKNOWN
from adapt.data.cache import pixels
from adapt.evaluation import statistics
from adapt.evaluation.statistics import with_statistics
from adapt.methods.cmkd import CMKDConfig
from adapt.training.train import train
from runtime.monitoring.fit import task_statistics
from runtime.monitoring.statistics import MEMBER

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def made(uda_cache, images, tmp_path_factory) -> Artifact:
    """A short training with RST, whose encoder has changed."""
    from adapt.data import load_folders

    config = CMKDConfig(
        model="demo-rn32", pretrained="demo", batch_size=8, epochs=2, iterations=3, lr=1e-3,
        train_size=36, rst=True, rst_threshold=1e-5, select="infomax",
    )  # fmt: skip
    out = tmp_path_factory.mktemp("artifacts")
    return train("cmkd", load_folders(images, "day", "night"), config, out=out).artifact


def bare(artifact: Artifact) -> Artifact:
    kept = {k: v for k, v in artifact.optional.items() if k not in (MEMBER, base_features.MEMBER)}
    return replace(artifact, optional=kept, optional_tensors={})


def test_they_are_of_the_encoder_in_the_artifact_and_of_the_untouched_base(
    made: Artifact, pair: DomainPair
) -> None:
    assert made.residual
    clip, spec = load_base(made), made.preprocess
    content = pixels(pair.target, spec.size, spec.resize, spec.interpolation, spec.background)
    some = np.stack([content.images[i] for i in range(len(content.images))])
    network = Network.of(clip, made)
    own, base = (
        predict(encoder, some, 64, "cpu", mean=spec.mean, std=spec.std)
        for encoder in (network.encoder, clip.visual)
    )
    with torch.inference_mode():
        predicted = network.head(own).argmax(-1).numpy()
    expected = task_statistics(own.numpy(), predicted, 3)
    document = made.optional[MEMBER]
    assert document.keys() >= expected.document().keys()
    assert (document["images"], document["version"]) == (27, 1)
    assert document["rest"] == pytest.approx(expected.gaussian.rest, rel=1e-3)
    for name, array in expected.tensors().items():
        if "axes" in name:  # each may point either way
            continue
        found = made.optional_tensors[name].astype(np.float64)
        np.testing.assert_allclose(found, array, rtol=1e-3, atol=1e-3, err_msg=name)
    kept = made.optional_tensors[f"{base_features.MEMBER}.features"]
    lengths = np.linalg.norm(base.numpy(), axis=1, keepdims=True)
    np.testing.assert_allclose(kept, base.numpy() / lengths, rtol=2e-3, atol=1e-3)
    assert np.abs(base.numpy() - own.numpy()).max() > 1e-3
    names = {name for name in made.optional_tensors if name.startswith(base_features.MEMBER)}
    assert names == {f"{base_features.MEMBER}.features"}


def test_no_label_is_used_and_a_base_may_be_given(made: Artifact, pair: DomainPair) -> None:
    blind = replace(pair.target, labels=np.full_like(pair.target.labels, UNKNOWN))
    for clip in (None, load_base(made)):
        again = with_statistics(bare(made), blind, CPU, clip)
        assert again.optional == made.optional
        for name, array in made.optional_tensors.items():
            np.testing.assert_array_equal(again.optional_tensors[name], array, err_msg=name)


def test_too_few_images_leave_an_artifact_without(
    made: Artifact, pair: DomainPair, caplog: pytest.LogCaptureFixture
) -> None:
    few = pair.target.subset(np.arange(19))
    with caplog.at_level(logging.INFO, "adapt"):
        found = with_statistics(bare(made), few, CPU)
    assert found.optional_tensors == {} and MEMBER not in found.optional
    assert "19 target images are too few for statistics, which need 20" in caplog.text


def test_equal_images_count_once(
    made: Artifact, pair: DomainPair, caplog: pytest.LogCaptureFixture
) -> None:
    twice = pair.target.subset(np.repeat(np.arange(len(pair.target)), 3))
    found = with_statistics(bare(made), twice, CPU)
    assert found.optional == made.optional
    for name, array in made.optional_tensors.items():
        np.testing.assert_array_equal(found.optional_tensors[name], array, err_msg=name)
    few = pair.target.subset(np.arange(60) % 15)
    with caplog.at_level(logging.INFO, "adapt"):
        found = with_statistics(bare(made), few, CPU)
    assert found.optional_tensors == {} and MEMBER not in found.optional
    assert "15 different target images are too few for statistics, which need 20" in caplog.text


def scaled(artifact: Artifact, length: float) -> Clip:
    """Return the base with features of another length."""
    clip = load_base(artifact)
    clip.visual.register_forward_hook(
        lambda _, __, features: torch.nn.functional.normalize(features, dim=-1) * length
    )
    return clip


def test_long_features_of_the_base_are_kept_as_well(made: Artifact, pair: DomainPair) -> None:
    plain = bare(replace(made, residual={}))
    found = with_statistics(plain, pair.target, CPU, scaled(plain, 1e6))
    expected = with_statistics(plain, pair.target, CPU, scaled(plain, 1.0))
    np.testing.assert_allclose(base_features.read(found), base_features.read(expected), atol=1e-3)


def test_of_many_images_some_are_taken_evenly(
    made: Artifact, pair: DomainPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"_MOST": 20, "_PER_CLASS": 1, "MOST_KEPT": 7}.items():
        monkeypatch.setattr(statistics, name, value)
    found = with_statistics(bare(made), pair.target, CPU)
    assert found.optional[MEMBER]["images"] == 20
    assert len(found.optional_tensors[f"{base_features.MEMBER}.features"]) == 7


def test_features_that_are_not_finite_leave_an_artifact_without(
    made: Artifact, pair: DomainPair, caplog: pytest.LogCaptureFixture
) -> None:
    far = {n: replace(one, values=one.values * 1e30) for n, one in made.residual.items()}
    with caplog.at_level(logging.WARNING, "adapt"):
        found = with_statistics(replace(bare(made), residual=far), pair.target, CPU)
    assert found.optional_tensors == {} and MEMBER not in found.optional
    assert "features of the target images are not finite, or 0" in caplog.text


def test_features_of_no_length_leave_an_artifact_without(made: Artifact, pair: DomainPair) -> None:
    plain = bare(replace(made, residual={}))
    assert MEMBER not in with_statistics(plain, pair.target, CPU, scaled(plain, 0.0)).optional
