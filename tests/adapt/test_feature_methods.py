"""UniMoS and the linear probe from images to artifact: resuming, caching, deployment."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adapt import methods
from adapt.artifacts.artifact import Artifact
from adapt.artifacts.merge import load_merged
from adapt.clip import model as base_models
from adapt.data import DomainPair
from adapt.data.cache import pixels
from adapt.data.transforms import normalise
from adapt.methods.base import Batch
from adapt.methods.linear_probe import LinearProbe, LinearProbeConfig
from adapt.methods.unimos import UniMoSConfig
from adapt.settings.config import TrainConfig
from adapt.training.train import train
from runtime.errors import ConfigError, Interrupted

SHARED = dict(
    model="demo-rn32", pretrained="demo", batch_size=8, train_size=32, eval_batch_size=16, epochs=4,
    iterations=3,
)  # fmt: skip
CONFIGS: dict[str, TrainConfig] = {
    "unimos": UniMoSConfig(**SHARED, temperature=22.0, width=32, lr=0.03),
    "linear_probe": LinearProbeConfig(**SHARED),
}


def stop_after(monkeypatch: pytest.MonkeyPatch, name: str, iteration: int) -> None:
    """Send a real SIGTERM at one iteration of a method."""
    cls = methods.get(name)
    original = cls.losses

    def losses(self: Any, source: Batch, target: Batch, i: int) -> Any:
        if i == iteration:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, source, target, i)

    monkeypatch.setattr(cls, "losses", losses)


@pytest.mark.parametrize("name", sorted(CONFIGS))
@pytest.mark.parametrize("cached", [True, False])
def test_a_resumed_run_ends_bit_for_bit_like_an_uninterrupted_one(
    pair: DomainPair, tmp_path: Path, name: str, cached: bool, cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    config = CONFIGS[name]
    whole = train(name, pair, config, out=tmp_path / "whole")
    with monkeypatch.context() as m:
        stop_after(m, name, 7)  # in the third epoch, which trains on centroid labels
        with pytest.raises(Interrupted):
            train(name, pair, config, out=tmp_path / "parts")
    if not cached:
        monkeypatch.setenv("UDA_CACHE", str(tmp_path / "empty"))
    parts = train(name, pair, config, out=tmp_path / "parts", resume=True)
    assert parts.artifact.head_tensors.keys() == whole.artifact.head_tensors.keys()
    for key, tensor in whole.artifact.head_tensors.items():
        np.testing.assert_array_equal(parts.artifact.head_tensors[key], tensor)
    assert parts.artifact.metrics == whole.artifact.metrics


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_a_run_leaves_one_affine_map_of_the_untouched_encoder(
    pair: DomainPair, tmp_path: Path, name: str
) -> None:
    config = CONFIGS[name]
    run = train(name, pair, config, out=tmp_path)
    artifact = Artifact.load(run.path)
    assert (artifact.head, artifact.density, artifact.residual) == ("affine", 0.0, {})
    assert {n: t.shape for n, t in artifact.head_tensors.items()} == {
        "weight": (3, 96), "bias": (3,),
    }  # fmt: skip
    clip = base_models.load(config.model, config.pretrained)
    test = pixels(pair.test, 32, config.resize, config.interpolation)
    images = normalise(torch.from_numpy(np.array(test.images)), clip.mean, clip.std)
    with torch.no_grad():
        x = load_merged(clip, artifact)(images).double().numpy()
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    logits = x @ artifact.head_tensors["weight"].T.astype(float) + artifact.head_tensors["bias"]
    accuracy = 100 * float((logits.argmax(-1) == pair.test.labels).mean())
    assert accuracy == pytest.approx(artifact.metrics["last"]["accuracy"])
    assert artifact.metrics["last"]["epoch"] == 4


def test_a_linear_probe_step_equals_the_naive_computation(pair: DomainPair, cache: Path) -> None:
    from adapt.optim.optimization import Optimization

    config = replace(CONFIGS["linear_probe"], weight_decay=0.01)
    clip = base_models.load(config.model, config.pretrained)
    method = LinearProbe(clip, ["a bee", "a cup", "a dog"], config)
    rows = torch.randn(6, 96, generator=torch.Generator().manual_seed(0))
    rows = rows / rows.norm(dim=-1, keepdim=True)
    method.register_buffer("source_bank", rows, persistent=False)
    optimization = Optimization(method.parameter_groups(), config)
    x, weight, bias = rows.double().numpy(), np.zeros((3, 96)), np.zeros(3)
    speed: dict[str, Any] = {}
    for t, picked in enumerate(([0, 1, 2, 3], [5, 4, 0, 2])):
        indices = torch.tensor(picked)
        batch = Batch(torch.empty(4, 0), indices % 3, indices)
        method.train()
        optimization.set_factor(method.schedule(t))
        found = method.training_step(batch, batch, t, optimization)["source"].item()
        slope_w, slope_b, loss = np.zeros_like(weight), np.zeros(3), 0.0
        for i in picked:
            z = weight @ x[i] + bias
            p = np.exp(z - z.max()) / np.exp(z - z.max()).sum()
            goal = 0.9 * np.eye(3)[i % 3] + 0.1 / 3
            loss -= (goal * np.log(p)).sum() / 4
            slope_w += np.outer(p - goal, x[i]) / 4
            slope_b += (p - goal) / 4
        assert found == pytest.approx(loss, rel=1e-6)
        lr = (1 + 3e-4 * t) ** -0.75
        for name, value, slope in (("w", weight, slope_w), ("b", bias, slope_b)):
            g = slope + 0.01 * value
            speed[name] = g if name not in speed else 0.9 * speed[name] + g
            value -= lr * (g + 0.9 * speed[name])
        np.testing.assert_allclose(method.head.weight.detach().numpy(), weight, atol=1e-6)
        np.testing.assert_allclose(method.head.bias.detach().numpy(), bias, atol=1e-6)


def test_features_are_computed_once_for_all_seeds_and_methods(
    pair: DomainPair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UDA_CACHE", str(tmp_path / "cache"))
    for name, seed in (("unimos", 0), ("unimos", 1), ("linear_probe", 0)):
        train(name, pair, replace(CONFIGS[name], seed=seed, epochs=1), out=tmp_path / str(seed))
        assert len(list((tmp_path / "cache" / "features").iterdir())) == 2  # source and target
    shutil.rmtree(tmp_path / "cache")


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_training_the_encoder_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="leaves the encoder alone; set train_encoder=false"):
        replace(CONFIGS[name], train_encoder=True)


@pytest.mark.parametrize(
    "wrong", [{"gamma": -1.0}, {"temperature": 0.0}, {"width": 0}, {"vision_weight": 1.5}]
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name}.* found .*{value}"):
        UniMoSConfig(**wrong)


def test_rst_has_nothing_to_do_without_an_encoder_to_train(
    pair: DomainPair, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="rst"):
        train("unimos", pair, replace(CONFIGS["unimos"], rst=True), out=tmp_path)
