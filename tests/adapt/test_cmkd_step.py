"""Whole CMKD iterations against NumPy in float64: losses, gradients, SGD, BatchNorm, RST; also with
FixMatch and with the partial-set variant.

The reference shares no code with what it checks: gradients are central finite differences of a
naive forward pass, in which everything the method detaches is frozen.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from adapt.clip.model import Clip
from adapt.methods.base import Batch
from adapt.methods.cmkd import CMKD, CMKDConfig
from adapt.optim.optimization import Optimization
from adapt.optim.rst import Projection, Threshold
from runtime.models import BaseModel

Array = NDArray[np.float64]
N, D, K, PIXELS, SCALE = 4, 5, 3, 12, 7.0
CONFIG = CMKDConfig(lr=0.02, head_lr_multiplier=5.0, rst=True, rst_threshold=0.004)
CONFIDENCE = 0.6
STEPS = (5000, 5001)  # where the ramp is about a quarter
NAMES = ("encoder", "bn", "ln_w", "ln_b", "linear")


class TinyClip(Clip):
    """A base model whose encoder is one matrix."""

    def text_features(self, prompts: Any) -> Tensor:
        rows = torch.randn(K, D, generator=torch.Generator().manual_seed(9))
        return rows / rows.norm(dim=-1, keepdim=True)


def tiny_clip() -> Clip:
    visual = nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, D, bias=False))
    with torch.no_grad():
        weight = torch.randn(D, PIXELS, generator=torch.Generator().manual_seed(8))
        visual[1].weight.copy_(weight * 0.4)
    info = BaseModel("tiny", "none", "0" * 64)
    return TinyClip(info, visual, 2, D, SCALE, (0.5,) * 3, (0.5,) * 3, visual, None)


def tiny_method(config: CMKDConfig = CONFIG) -> CMKD:
    method = CMKD(tiny_clip(), ["a", "b", "c"], config)
    with torch.no_grad():  # a head that has an opinion
        method.head.linear.weight.normal_(generator=torch.Generator().manual_seed(7))
    return method


def pair(iteration: int, fixmatch: bool = False) -> tuple[Batch, Batch]:
    generator = torch.Generator().manual_seed(iteration)
    source, target, noise = torch.randn(3, N, 3, 2, 2, generator=generator)
    labels, strong = torch.tensor([0, 2, 1, 2]), target + 0.7 * noise if fixmatch else None
    return Batch(source, labels, labels), Batch(target, labels * 0 - 1, labels, strong)


def softmax(z: Array) -> Array:
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def head(f: Array, p: dict[str, Array]) -> Array:
    x = p["bn"] * (f - f.mean(0)) / np.sqrt(f.var(0) + 1e-5)
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return (x * p["ln_w"] + p["ln_b"]) @ p["linear"].T


def clip_head(f: Array, text: Array) -> Array:
    return SCALE * (f / np.linalg.norm(f, axis=-1, keepdims=True)) @ text.T


def gini(p: Array, w: Array, mass: Array) -> float:
    total = 0.0
    for i in range(N):
        total += w[i] * (1 - sum(p[i, c] ** 2 / mass[c] for c in range(K)))
    return total


def pseudo(weak: Array, strong: Array, kept: Array, labels: list[int | None] | None) -> Any:
    """FixMatch's loss and the labels that it takes as constants."""
    if labels is None:
        labels = []
        for row in weak:
            best = max((c for c in range(K) if kept[c]), key=lambda c: row[c])
            labels.append(best if row[best] >= CONFIDENCE else None)
    total = 0.0
    for row, label in zip(strong, labels, strict=True):
        total -= 0.0 if label is None else math.log(row[label])
    return total / N, labels


def terms(
    p: dict[str, Array], x_s: Array, x_t: Array, x_u: Array | None, y: list[int], text: Array,
    lam: float, kept: Array | None, frozen: dict[str, Any] | None,
) -> tuple[dict[str, float], dict[str, Any]]:  # fmt: skip
    f_s, f_t = x_s @ p["encoder"].T, x_t @ p["encoder"].T
    z_s, z_t, g_s, g_t = head(f_s, p), head(f_t, p), clip_head(f_s, text), clip_head(f_t, text)
    soft_p, soft_q = softmax(z_t), softmax(g_t)
    constants = frozen or {"a": np.exp(-(soft_q * np.log(soft_q / soft_p)).sum(-1))}
    near, far = (1, 1) if kept is None else (0.5, 0.1)
    columns = np.ones(K) if kept is None else kept
    cut_p, cut_q = soft_p * columns, soft_q * columns
    if frozen is None:  # the values at the point where the gradient is taken
        constants |= {"q": cut_q, "mass_p": cut_p.sum(0), "mass_m": (cut_p + cut_q).sum(0) / 2}
    mixture, ones = (cut_p + constants["q"]) / 2, np.ones(N)
    smooth = 0.9 * np.eye(K)[y] + 0.1 / K
    masses = {name: np.where(columns > 0, constants[name], 1) for name in ("mass_p", "mass_m")}
    mass_q = np.where(columns > 0, constants["q"].sum(0), 1)
    anchor = -0.1 * np.log(softmax(g_s))[range(N), y].mean()
    result = {
        "source": near * -(smooth * np.log(softmax(z_s))).sum() / N,
        "task": far * 0.25 * lam * gini(cut_p, constants["a"], masses["mass_p"]),
        "distill": far * 0.25 * lam * gini(mixture, 1 - constants["a"], masses["mass_m"]),
        "reg": far * (anchor + 0.025 * lam * gini(cut_q, ones, mass_q)),
    }
    if x_u is not None:
        f_u = x_u @ p["encoder"].T
        losses = []
        for name, weak, strong in (
            ("h", soft_p, head(f_u, p)),
            ("g", soft_q, clip_head(f_u, text)),
        ):
            loss, constants[name] = pseudo(weak, softmax(strong), columns, constants.get(name))
            losses.append(loss)
        result["fixmatch"] = far * 0.5 * sum(losses)
    return result, constants


def gradients(p: dict[str, Array], *args: Any) -> dict[str, Array]:
    _, frozen = terms(p, *args, None)
    result = {}
    for name, value in p.items():
        gradient, flat = np.zeros_like(value), value.reshape(-1)
        for i in range(flat.size):
            before, values = flat[i], []
            for h in (1e-6, -1e-6):
                flat[i] = before + h
                values.append(sum(terms(p, *args, frozen)[0].values()))
            flat[i] = before
            gradient.reshape(-1)[i] = (values[0] - values[1]) / 2e-6
        result[name] = gradient
    return result


def parameters(method: CMKD) -> dict[str, Tensor]:
    head_module = method.head
    tensors = (
        method.encoder[1].weight, head_module.bn.weight, head_module.ln.weight,
        head_module.ln.bias, head_module.linear.weight,
    )  # fmt: skip
    return dict(zip(NAMES, tensors, strict=True))


VARIANTS = {
    "plain": CONFIG,
    "fixmatch": replace(CONFIG, fixmatch=0.5, fixmatch_threshold=CONFIDENCE),
    "partial": replace(CONFIG, partial=True),
    "both": replace(CONFIG, fixmatch=0.5, fixmatch_threshold=CONFIDENCE, partial=True),
}


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_two_iterations_equal_the_naive_computation(config: CMKDConfig) -> None:
    method = tiny_method(config)
    rule = Threshold(CONFIG.rst_threshold)
    projection = Projection(list(method.encoder.parameters()), rule)
    optimization = Optimization(method.parameter_groups(), config, projection)
    text = method.text.double().numpy()
    kept = None
    if method.kept is not None:
        method.kept.copy_(torch.tensor([1, 0, 1]))
        kept = np.array([1.0, 0.0, 1.0])
    p = {n: t.detach().double().numpy().copy() for n, t in parameters(method).items()}
    base, velocity = p["encoder"].copy(), {}
    mean, variance = np.zeros(D), np.ones(D)
    for t in STEPS:
        source, target = pair(t, config.fixmatch > 0)
        views = [source.images, target.images, target.strong]
        x_s, x_t, x_u = (
            None if view is None else view.double().numpy().reshape(N, -1) for view in views
        )
        lam = 2 / (1 + math.exp(-t / 10000)) - 1
        args = (x_s, x_t, x_u, source.labels.tolist(), text, lam, kept)
        expected, frozen = terms(p, *args, None)
        assert 0.01 < frozen["a"].min() < frozen["a"].max() < 0.99  # heads agree and differ
        if x_u is not None:  # some pseudo labels count, some do not
            assert 0 < sum(label is None for label in frozen["h"] + frozen["g"]) < 2 * N

        method.train()
        optimization.set_factor(method.schedule(t))
        found = method.training_step(source, target, t, optimization)
        assert {n: v.item() for n, v in found.items()} == pytest.approx(
            expected, rel=2e-5, abs=1e-6
        )

        for x in (x_s, x_t) if x_u is None else (x_s, x_t, x_u):  # in this order
            f = x @ p["encoder"].T
            mean, variance = 0.9 * mean + 0.1 * f.mean(0), 0.9 * variance + 0.1 * f.var(0, ddof=1)
        slope = gradients(p, *args)
        for name in NAMES:
            lr = 0.02 * (1 if name == "encoder" else 5) * (1 + 3e-4 * t) ** -0.75
            g = slope[name] + 5e-4 * p[name]
            velocity[name] = g if name not in velocity else 0.9 * velocity[name] + g
            p[name] = p[name] - lr * (g + 0.9 * velocity[name])
        far = np.abs(p["encoder"] - base) > 0.004
        p["encoder"] = np.where(far, p["encoder"], base)

        assert 0.05 < far.mean() < 0.95
        for name, tensor in parameters(method).items():
            np.testing.assert_allclose(tensor.detach().numpy(), p[name], rtol=0, atol=2e-6)
        np.testing.assert_allclose(method.head.bn.running_mean.numpy(), mean, rtol=0, atol=1e-6)
        np.testing.assert_allclose(method.head.bn.running_var.numpy(), variance, rtol=0, atol=1e-6)
    assert projection.changed() == int((p["encoder"] != base).sum())
    assert not method.head.bn.bias.any()
