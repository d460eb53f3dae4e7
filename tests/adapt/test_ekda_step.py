"""Whole EKDA iterations against NumPy in float64: both models, losses, gradients, SGD, BatchNorm.

The reference shares no code with what it checks: transformers, losses and optimizer are written out
as loops, texts are not cut, and gradients are central finite differences.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from open_clip.model import CLIP

from adapt.clip.model import Clip
from adapt.methods.base import Batch
from adapt.methods.ekda import EKDA, EKDAConfig
from adapt.optim.optimization import Optimization
from runtime.models import BaseModel

Array = NDArray[np.float64]
Weights = dict[str, Array]
B, K, N_CTX, HEADS, PATCH, CONTEXT = 4, 3, 2, 2, 2, 9
PROMPTS = ("a photo of a bee", "a photo of a hot dog", "a photo of a cup")
CONFIG = EKDAConfig(
    lr=0.004, head_lr_multiplier=20.0, teacher_lr_multiplier=2.0, n_ctx=N_CTX, tau=2.0, epochs=3,
    iterations=1, templates="prompt", prompt="a photo of a {}", kd_weight=30.0, text_weight=25.0,
    image_weight=10.0,
)  # fmt: skip
ERF = np.vectorize(math.erf)


def tiny_clip(seed: int, width: int, features: int, scale: float) -> Clip:
    vision = {"image_size": 4, "patch_size": PATCH, "width": width, "layers": 2}
    text = {"context_length": CONTEXT, "vocab_size": 49408, "width": 6, "heads": HEADS, "layers": 1}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = CLIP(features, {**vision, "head_width": width // HEADS}, text).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
    return Clip(
        info=BaseModel("tiny", "none", "0" * 64), visual=model.visual, image_size=4, dim=features,
        logit_scale=scale, mean=(0.5,) * 3, std=(0.5,) * 3, _model=model,
        _tokenizer=open_clip.SimpleTokenizer(context_length=CONTEXT),
    )  # fmt: skip


def weights(clip: Clip) -> Weights:
    return {n: t.double().numpy() for n, t in clip._model.state_dict().items()}


def norm(x: Array, w: Weights, name: str) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]


def linear(x: Array, w: Weights, name: str) -> Array:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def block(x: Array, w: Weights, name: str, causal: bool) -> Array:
    """One transformer block on one sequence (L, W), head by head and row by row."""
    length, width = x.shape
    y = norm(x, w, f"{name}.ln_1")
    q, k, v = np.split(
        y @ w[f"{name}.attn.in_proj_weight"].T + w[f"{name}.attn.in_proj_bias"], 3, 1
    )
    mixed, size = np.zeros_like(x), width // HEADS
    for head in range(HEADS):
        part = slice(head * size, (head + 1) * size)
        for row in range(length):
            seen = range(row + 1) if causal else range(length)
            energy = np.exp([q[row, part] @ k[other, part] / math.sqrt(size) for other in seen])
            for share, other in zip(energy / energy.sum(), seen, strict=True):
                mixed[row, part] += share * v[other, part]
    x = x + linear(mixed, w, f"{name}.attn.out_proj")
    hidden = linear(norm(x, w, f"{name}.ln_2"), w, f"{name}.mlp.c_fc")
    hidden = hidden * 0.5 * (1 + ERF(hidden / math.sqrt(2)))
    return x + linear(hidden, w, f"{name}.mlp.c_proj")


def remember(function: Callable[..., Array]) -> Callable[..., Array]:
    """Finite differences of one model's prompts ask for the other's features again and again."""
    known: dict[Any, Array] = {}

    def remembered(inputs: Any, w: Weights, prompts: list[Array]) -> Array:
        key = (inputs.tobytes(), id(w), *(prompt.tobytes() for prompt in prompts))
        if key not in known:
            known[key] = function(inputs, w, prompts)
        return known[key]

    return remembered


@remember
def see(images: Array, w: Weights, prompts: list[Array]) -> Array:
    """Features (B, D), not of unit length; the prompts are one (n, W) per block, from block 0."""
    rows = []
    for image in images:
        patches = [
            np.einsum(
                "wcij,cij->w", w["visual.conv1.weight"], image[:, i : i + PATCH, j : j + PATCH]
            )
            for i in range(0, 4, PATCH)
            for j in range(0, 4, PATCH)
        ]
        x = np.stack([w["visual.class_embedding"], *patches]) + w["visual.positional_embedding"]
        for number in range(2):
            if number == 0:
                x = np.concatenate([x[:1], *prompts[:1], x[1:]])
                x = norm(x, w, "visual.ln_pre")
            elif len(prompts) > number:
                x[1 : 1 + N_CTX] = prompts[number]
            x = block(x, w, f"visual.transformer.resblocks.{number}", causal=False)
        rows.append(norm(x[0], w, "visual.ln_post") @ w["visual.proj"])
    return np.stack(rows)


@remember
def say(tokens: NDArray[np.int64], w: Weights, contexts: list[Array]) -> Array:
    """Unit text features (K, E), over the whole context; at most one array of learned words."""
    rows = []
    for caption in tokens:
        x = w["token_embedding.weight"][caption]
        for ctx in contexts:
            x[1 : 1 + N_CTX] = ctx
        x = block(x + w["positional_embedding"], w, "transformer.resblocks.0", causal=True)
        rows.append(norm(x, w, "ln_final")[caption.argmax()] @ w["text_projection"])
    return unit(np.stack(rows))


def unit(x: Array) -> Array:
    return x / np.sqrt((x**2).sum(-1, keepdims=True))


def softmax(z: Array) -> Array:
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def entropy(z: Array, labels: list[int]) -> float:
    return -sum(math.log(softmax(z)[b, y]) for b, y in enumerate(labels)) / B


def kl(target: Array, z: Array, tau: float) -> float:
    p, q, total = softmax(target / tau), softmax(z / tau), 0.0
    for b in range(B):
        for c in range(K):
            total += p[b, c] * math.log(p[b, c] / q[b, c])
    return tau**2 * total / (B * K)


def project(f: Array, p: Weights) -> tuple[Array, Array]:
    """Unit projections (B, E) and what BatchNorm saw."""
    x = f @ p["proj1.weight"].T + p["proj1.bias"]
    y = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) * p["bn.weight"] + p["bn.bias"]
    return unit(np.maximum(y, 0) @ p["proj2.weight"].T + p["proj2.bias"]), x


def teacher_terms(p: Weights, w: Weights, x: Array, y: list[int], tokens: Any, s: float) -> Weights:
    text, plain_text = say(tokens, w, [p["ctx"]]), say(tokens, w, [])
    f, plain = unit(see(x, w, [p["vctx"]])), unit(see(x, w, []))
    z, plain_z = s * f @ text.T, s * plain @ plain_text.T
    size = f.shape[1]
    far_text = sum(abs(text[c, e] - plain_text[c, e]) for c in range(K) for e in range(size))
    far_image = sum(abs(f[b, e] - plain[b, e]) for b in range(B) for e in range(size))
    return {
        "teacher_ce": entropy(z, y),
        "teacher_text": 25 * far_text / (K * size),
        "teacher_image": 10 * far_image / (B * size),
        "teacher_kl": kl(plain_z, z, 1.0),
    }


def student_terms(
    p: Weights, w: Weights, x: Array, aim: Array, seen: Array, text: Array, s: float
) -> Weights:
    f, _ = project(see(x, w, [p["prompts.0"], p["prompts.1"]]), p)
    z = s * f @ text.T
    return {
        "distill": 30 * kl(aim, z, 2.0),
        "pseudo": entropy(z, aim.argmax(-1).tolist()),
        "align": sum(((seen[b] - f[b]) ** 2).sum() for b in range(B)) / B,
    }


def slopes(p: Weights, loss: Callable[..., Weights], *given: Any) -> Weights:
    result = {}
    for name, value in p.items():
        gradient, flat = np.zeros(value.size), value.reshape(-1)
        for i in range(flat.size):
            before, values = flat[i], []
            for h in (1e-6, -1e-6):
                flat[i] = before + h
                values.append(sum(loss(p, *given).values()))
            flat[i] = before
            gradient[i] = (values[0] - values[1]) / 2e-6
        result[name] = gradient.reshape(value.shape)
    return result


def pair(iteration: int) -> tuple[Batch, Batch]:
    generator = torch.Generator().manual_seed(iteration)
    source, target = torch.randn(2, B, 3, 4, 4, generator=generator)
    labels = torch.tensor([0, 2, 1, 2])
    return Batch(source, labels, labels), Batch(target, labels * 0 - 1, labels)


def test_two_iterations_equal_the_naive_computation() -> None:
    base, large = tiny_clip(5, 4, 3, 5.0), tiny_clip(2, 6, 4, 7.0)
    method = EKDA(base, PROMPTS, CONFIG, large)
    optimization = Optimization(method.parameter_groups(), CONFIG)
    w_s, w_t, tokens = weights(base), weights(large), large.tokenize(PROMPTS).numpy()
    own_t = {"ctx": method.teacher.ctx, "vctx": method.teacher.vctx}
    own_s = {**method.tokens(), **dict(method.head.named_parameters())}
    assert own_t["ctx"].shape == own_t["vctx"].shape == (N_CTX, 6)
    p_t, p_s = (
        {n: t.detach().double().numpy().copy() for n, t in own.items()} for own in (own_t, own_s)
    )
    rates = {n: 0.008 for n in p_t} | {n: 0.004 if "prompts" in n else 0.08 for n in p_s}
    velocity: Weights = {}
    mean, variance = np.zeros(4), np.ones(4)

    def descend(p: Weights, gradient: Weights, factor: float) -> None:
        for name in p:
            g = gradient[name] + 5e-4 * p[name]
            velocity[name] = g if name not in velocity else 0.9 * velocity[name] + g
            p[name] -= factor * rates[name] * velocity[name]

    for t, factor in ((0, 1.0), (1, 0.75)):  # half a cosine over three epochs of one iteration
        source, target = pair(t)
        x_s, x_t = source.images.double().numpy(), target.images.double().numpy()
        given = (w_t, x_s, source.labels.tolist(), tokens, 7.0)
        taught = teacher_terms(p_t, *given)
        descend(p_t, slopes(p_t, teacher_terms, *given), factor)
        text, seen = say(tokens, w_t, [p_t["ctx"]]), unit(see(x_t, w_t, [p_t["vctx"]]))
        given = (w_s, x_t, 7.0 * seen @ text.T, seen, text, 5.0)
        learned = student_terms(p_s, *given)
        _, x = project(see(x_t, w_s, [p_s["prompts.0"], p_s["prompts.1"]]), p_s)
        mean, variance = 0.9 * mean + 0.1 * x.mean(0), 0.9 * variance + 0.1 * x.var(0, ddof=1)
        descend(p_s, slopes(p_s, student_terms, *given), factor)

        method.train()
        optimization.set_factor(method.schedule(t))
        found = method.training_step(source, target, t, optimization)
        for name, value in (taught | learned).items():
            np.testing.assert_allclose(found[name].item(), value, rtol=2e-5, err_msg=name)
        for own, p in ((own_t, p_t), (own_s, p_s)):
            for name, tensor in own.items():  # measured 2e-6
                np.testing.assert_allclose(
                    tensor.detach().numpy(), p[name], rtol=0, atol=6e-6, err_msg=name
                )
        np.testing.assert_allclose(method.head.bn.running_mean.numpy(), mean, rtol=0, atol=1e-6)
        np.testing.assert_allclose(method.head.bn.running_var.numpy(), variance, rtol=0, atol=1e-6)
    method.eval()
    np.testing.assert_allclose(method.head.weight.numpy(), 5.0 * text, rtol=0, atol=1e-5)
