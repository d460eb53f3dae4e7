"""Whole UniMoS epochs against NumPy in float64: labels, losses, both SGDs, BatchNorm, prior, fold.

The reference shares no code with what it checks: gradients are central finite differences of a
naive forward pass, in which everything the method detaches is frozen, and there are two optimizers
as in the released code.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from adapt.clip.model import Clip
from adapt.methods.heads import AffineHead, build_head, head_tensors
from adapt.methods.parts.unimos_network import Network
from adapt.methods.unimos import UniMoS, UniMoSConfig
from adapt.optim.optimization import Optimization
from adapt.training.batches import Stream
from runtime.models import BaseModel

Array = NDArray[np.float64]
B, D, K, E, NS, NT, PIXELS = 4, 5, 3, 4, 9, 11, 12
CONFIG = UniMoSConfig(
    batch_size=B, epochs=4, iterations=1, lr=0.05, alpha=0.7, beta=1.3, gamma=0.3, temperature=5.0,
    width=E, eval_batch_size=8,
)  # fmt: skip
SEPARATORS = ("wv", "bv", "wt", "bt")


class TinyClip(Clip):
    """A base model whose encoder is one matrix."""

    def text_features(self, prompts: Any) -> Tensor:
        rows = torch.randn(K, D, generator=torch.Generator().manual_seed(9))
        return rows / rows.norm(dim=-1, keepdim=True)


def tiny_clip() -> Clip:
    visual = nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, D, bias=False))
    with torch.no_grad():
        visual[1].weight.copy_(torch.randn(D, PIXELS, generator=torch.Generator().manual_seed(8)))
    info = BaseModel("tiny", "none", "0" * 64)
    return TinyClip(info, visual, 2, D, 20.0, (0.4,) * 3, (0.25,) * 3, visual, None)


def pictures(count: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 2, 2, 3), dtype=np.uint8)


def streams(clip: Clip) -> tuple[Stream, Stream]:
    device, labels = torch.device("cpu"), np.arange(NS) % K
    source = Stream(
        "source", pictures(NS, 1), labels, CONFIG, clip, device, digest="tiny-1", images=False
    )
    target = Stream(
        "target", pictures(NT, 2), None, CONFIG, clip, device, digest="tiny-2", images=False
    )
    return source, target


def features(clip: Clip, images: NDArray[np.uint8]) -> Array:
    weight = clip.visual[1].weight.detach().double().numpy()
    rows = []
    for image in images:
        pixels = (image.transpose(2, 0, 1).reshape(-1) / 255 - 0.4) / 0.25
        row = weight @ pixels
        rows.append(row / np.sqrt((row**2).sum()))
    return np.array(rows)


def parameters(net: Network) -> dict[str, Tensor]:
    (g1, g2), (d1, d2) = net.generator, net.discriminator
    return {
        "wv": net.separators.weight[:D], "bv": net.separators.bias[:D],
        "wt": net.separators.weight[D:], "bt": net.separators.bias[D:],
        "w1": net.bottleneck.weight, "b1": net.bottleneck.bias,
        "bn_w": net.norm.weight, "bn_b": net.norm.bias,
        "direction": net.direction, "gain": net.gain, "bias": net.bias,
        "g1": g1.weight, "g1_b": g1.bias, "g2": g2.weight, "g2_b": g2.bias,
        "d1": d1.weight, "d1_b": d1.bias, "d2": d2.weight, "d2_b": d2.bias,
    }  # fmt: skip


def values(net: Network) -> dict[str, Array]:
    return {n: t.detach().double().numpy().copy() for n, t in parameters(net).items()}


def softmax(z: Array) -> Array:
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def nll(z: Array, labels: Any) -> float:
    return -sum(np.log(softmax(row)[y]) for row, y in zip(z, labels, strict=True)) / len(z)


def classify(hidden: Array, p: dict[str, Array]) -> Array:
    out = np.zeros((len(hidden), K))
    for k in range(K):
        length = np.sqrt((p["direction"][k] ** 2).sum())
        out[:, k] = hidden @ (p["gain"][k, 0] * p["direction"][k] / length) + p["bias"][k]
    return out


def vision_hidden(x: Array, p: dict[str, Array]) -> Array:
    return (x @ p["wv"].T + p["bv"]) @ p["w1"].T + p["b1"]


def language_logits(x: Array, p: dict[str, Array], text: Array) -> Array:
    return 5.0 * (x @ p["wt"].T + p["bt"]) @ text.T


def tell(rows: Array, mask: Array, p: dict[str, Array]) -> Array:
    hidden = np.maximum(rows @ p["d1"].T + p["d1_b"], 0) * mask * 2
    return (hidden @ p["d2"].T + p["d2_b"])[:, 0]


def bce(x: Array, mask: Array, p: dict[str, Array]) -> float:
    total = 0.0
    for i, row in enumerate(x):
        v, u = row @ p["wv"].T + p["bv"], row @ p["wt"].T + p["bt"]
        of_v, of_u = tell(np.stack([v, u]), mask[2 * i : 2 * i + 2], p)
        total += np.log(1 + np.exp(of_v)) + np.log(1 + np.exp(-of_u))
    return total / (2 * len(x))


def first_terms(
    p: dict[str, Array], x_s: Array, x_t: Array, y: Any, pseudo: Any, text: Array, mask: Array,
    fixed: Array | None,
) -> tuple[dict[str, float], Array]:  # fmt: skip
    hidden = vision_hidden(np.concatenate([x_s, x_t]), p)
    hidden = (hidden - hidden.mean(0)) / np.sqrt(hidden.var(0) + 1e-5) * p["bn_w"] + p["bn_b"]
    o = classify(hidden, p)
    l_s, l_t = language_logits(x_s, p, text), language_logits(x_t, p, text)
    fixed = l_t if fixed is None else fixed
    v_t = x_t @ p["wv"].T + p["bv"]
    units = (v_t @ p["g1"].T + p["g1_b"]) @ p["g2"].T + p["g2_b"]
    w = (1 / (1 + np.exp(-units))).mean()
    ensemble = w * o[B:] + (1 - w) * fixed
    kl = entropy = parting = 0.0
    for i in range(B):
        a, b = softmax(l_t[i]), softmax(5.0 * text @ x_t[i])
        kl += (a * np.log(a / b)).sum() / B
        q = softmax(ensemble[i])
        entropy -= (q * np.log(q + 1e-5)).sum() / B
    for row in np.concatenate([x_s, x_t]):
        parting += ((row @ p["wv"].T + p["bv"]) @ (row @ p["wt"].T + p["bt"])) ** 2
    mean = softmax(ensemble).mean(0)
    return {
        "lac": 0.7 * nll(l_s, y) + kl,
        "vac": 1.3 * nll(o[:B], y) + nll(ensemble, pseudo),
        "im": entropy + (mean * np.log(mean + 1e-5)).sum(),
        "separation": 0.3 * parting,
        "source_discriminator": 0.3 * bce(x_s, mask, p),
    }, fixed


def slope(p: dict[str, Array], names: Any, loss: Any) -> dict[str, Array]:
    result = {}
    for name in names:
        gradient, flat = np.zeros_like(p[name]), p[name].reshape(-1)
        for i in range(flat.size):
            before, ends = flat[i], []
            for h in (1e-6, -1e-6):
                flat[i] = before + h
                ends.append(loss(p))
            flat[i] = before
            gradient.reshape(-1)[i] = (ends[0] - ends[1]) / 2e-6
        result[name] = gradient
    return result


def evaluate(
    x: Array, p: dict[str, Array], state: dict[str, Array], text: Array, epoch: int
) -> tuple[Array, Array]:
    """Return the ensemble's logits (N, K) and unit bottleneck features of the unfolded network."""
    hidden = vision_hidden(x, p) - state["mean"]
    hidden = hidden / np.sqrt(state["var"] + 1e-5) * p["bn_w"] + p["bn_b"]
    if epoch == 0:
        t = 5.0 * x @ text.T
        t = t - t.mean(-1, keepdims=True)
    else:
        t = language_logits(x, p, text) - 0.5 * np.log(state["prior"])
    a = max(0.3, 0.8 - 0.05 * epoch)
    return a * classify(hidden, p) + (1 - a) * t, hidden / np.linalg.norm(
        hidden, axis=-1, keepdims=True
    )


def labels(x: Array, logits: Array, inner: Array, epoch: int) -> list[int]:
    """Return what the end of an epoch, from 0, makes of the target."""
    if epoch % 2 == 0:
        return [int(np.argmax(row)) for row in logits]
    shares, centroids = softmax(logits), []
    for k in range(K):
        total = sum(shares[i, k] * inner[i] for i in range(len(x)))
        centroids.append(total / (1e-8 + sum(shares[i, k] for i in range(len(x)))))
    cosine = [[f @ c / np.linalg.norm(c) for c in centroids] for f in inner]
    return [int(np.argmax(row)) for row in cosine]


def test_four_epochs_equal_the_naive_computation() -> None:
    clip = tiny_clip()
    text = clip.text_features(()).double().numpy()
    x_source, x_target = features(clip, pictures(NS, 1)), features(clip, pictures(NT, 2))
    source, target = streams(clip)
    method = UniMoS(clip, ["a", "b", "c"], CONFIG)
    method.prepare(source, target)
    optimization = Optimization(method.parameter_groups(), CONFIG)
    p = values(method.network)
    state = {"mean": np.zeros(E), "var": np.ones(E), "prior": np.full(K, 1 / K)}
    first: dict[str, Array] = {}
    second: dict[str, Array] = {}
    pseudo = [int(np.argmax(text @ row)) for row in x_target]  # epochs 0 and 1: zero-shot
    seen = {tuple(pseudo)}
    for t in range(4):
        if t >= 2:
            logits, inner = evaluate(x_target, p, state, text, t - 1)
            pseudo = labels(x_target, logits, inner, t - 1)
            seen.add(tuple(pseudo))
        method.start_epoch(t)
        assert method.pseudo.tolist() == pseudo
        for name in ("g1", "g1_b", "g2", "g2_b"):  # redrawn: see the test of that
            p[name] = values(method.network)[name]

        batch_s, batch_t = source.batch(t), target.batch(t)
        x_s, x_t = x_source[batch_s.indices.numpy()], x_target[batch_t.indices.numpy()]
        torch.manual_seed(t)
        mask_s, mask_t = (torch.rand(2 * B, E).numpy() >= 0.5 for _ in range(2))
        given = [pseudo[i] for i in batch_t.indices.tolist()]
        args = (x_s, x_t, batch_s.labels.tolist(), given, text, mask_s)
        expected, fixed = first_terms(p, *args, None)
        expected["target_discriminator"] = 0.3 * bce(x_t, mask_t, p)

        torch.manual_seed(t)
        method.train()
        optimization.set_factor(method.schedule(t))
        found = method.training_step(batch_s, batch_t, t, optimization)
        assert {n: v.item() for n, v in found.items()} == pytest.approx(expected, rel=2e-5)

        prior = softmax(language_logits(x_t, p, text)).mean(0)
        state["prior"] = 0.99 * state["prior"] + 0.01 * prior
        hidden = vision_hidden(np.concatenate([x_s, x_t]), p)
        state["mean"] = 0.9 * state["mean"] + 0.1 * hidden.mean(0)
        state["var"] = 0.9 * state["var"] + 0.1 * hidden.var(0, ddof=1)

        lr = 0.05 * (1 + 1e-3 * t) ** -0.75
        by_first = slope(p, p, lambda q, a=args, f=fixed: sum(first_terms(q, *a, f)[0].values()))
        by_second = slope(p, SEPARATORS, lambda q, x=x_t, m=mask_t: 0.3 * bce(x, m, q))
        for velocity, gradients in ((first, by_first), (second, by_second)):
            for name, g in gradients.items():
                velocity[name] = g if name not in velocity else 0.9 * velocity[name] + g
                p[name] = p[name] - lr * velocity[name]
        for name, value in values(method.network).items():
            np.testing.assert_allclose(value, p[name], rtol=0, atol=3e-6, err_msg=name)
        norm = method.network.norm
        np.testing.assert_allclose(norm.running_mean.numpy(), state["mean"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(norm.running_var.numpy(), state["var"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(method.prior.numpy(), state["prior"], rtol=0, atol=1e-6)
    assert len(seen) == 3  # zero-shot, centroids, ensemble: three different labellings


def trained(seed: int) -> UniMoS:
    """Return a method whose every tensor looks as after long training."""
    method = UniMoS(tiny_clip(), ["a", "b", "c"], CONFIG)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in method.network.parameters():
            tensor.add_(0.5 * torch.randn(tensor.shape, generator=generator))
        method.network.norm.running_mean.normal_(generator=generator)
        method.network.norm.running_var.uniform_(0.01, 4.0, generator=generator)
        method.prior.copy_(torch.rand(K, generator=generator).softmax(-1))
    return method


@pytest.mark.parametrize("epoch", [0, 1, 7, 30])
def test_the_fold_equals_the_unfolded_network(epoch: int) -> None:
    x = features(tiny_clip(), pictures(50, 3))
    text = tiny_clip().text_features(()).double().numpy()
    for seed in range(5):
        method = trained(seed)
        method.epoch.fill_(epoch)
        norm, p = method.network.norm, values(method.network)
        state = {
            "mean": norm.running_mean.double().numpy(), "var": norm.running_var.double().numpy(),
            "prior": method.prior.double().numpy(),
        }  # fmt: skip
        expected, _ = evaluate(x, p, state, text, epoch)
        folded = method.fold()
        exact = x @ folded.weight.numpy().T + folded.bias.numpy()
        np.testing.assert_allclose(exact, expected, rtol=0, atol=1e-12 * np.abs(expected).max())

        head = build_head("affine", head_tensors(method.deploy().head))
        with torch.no_grad():
            found = head(torch.from_numpy(37 * x).float()).double().numpy()  # of any length
        assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()
        np.testing.assert_array_equal(
            found, method.classify(torch.from_numpy(37 * x).float()).double().numpy()
        )


@pytest.mark.parametrize(
    ("dim", "classes", "count"),
    [
        (512, 12, 923_418),  # VisDA, ResNet-101
        (1024, 65, 2_904_196),  # Office-Home, ResNet-50
        (512, 65, 937_092),  # Office-Home, ViT-B
        (768, 65, 1_789_572),  # Office-Home, ViT-L
        (512, 345, 1_009_332),  # DomainNet, ViT-B
    ],
)
def test_the_network_has_as_many_parameters_as_published(
    dim: int, classes: int, count: int
) -> None:
    network = Network(dim, classes, 256)
    assert sum(p.numel() for p in network.parameters()) == count
    if classes == 12:
        discriminator = sum(p.numel() for p in network.discriminator.parameters())
        assert count - discriminator == 791_833  # the paper's 0.79 million


@pytest.mark.parametrize(
    ("dim", "classes", "count"),
    [(1024, 65, 66_625), (512, 65, 33_345), (512, 12, 6_156), (512, 345, 176_985)],
)
def test_the_deployed_head_has_the_published_size(dim: int, classes: int, count: int) -> None:
    assert sum(t.size for t in head_tensors(AffineHead(dim, classes)).values()) == count


def test_one_optimizer_trains_the_network_and_nothing_else() -> None:
    method = UniMoS(tiny_clip(), ["a", "b", "c"], CONFIG)
    (group,) = method.parameter_groups()
    assert (group.optimizer, group.lr) == ("main", CONFIG.lr)
    assert [id(p) for p in group.parameters] == [id(p) for p in method.network.parameters()]


def test_the_targets_discriminator_term_reaches_the_separators_alone() -> None:
    clip = tiny_clip()
    method = UniMoS(clip, ["a", "b", "c"], CONFIG).train()
    source, target = streams(clip)
    method.prepare(source, target)
    term = method.losses(source.batch(0), target.batch(0), 0)["target_discriminator"]
    term.backward()
    reached = {n for n, p in method.network.named_parameters() if p.grad is not None}
    assert reached == {"separators.weight", "separators.bias"}


def test_the_generator_is_redrawn_by_seed_and_epoch_alone() -> None:
    changed = []
    for epoch in range(60):
        pair = [UniMoS(tiny_clip(), ["a", "b", "c"], CONFIG) for _ in range(2)]
        before = [t.clone() for t in pair[0].network.generator.parameters()]
        for number, method in enumerate(pair):
            torch.manual_seed(number)
            method.network.redraw_generator(torch.Generator().manual_seed(epoch))
        after, again = (list(m.network.generator.parameters()) for m in pair)
        assert all(torch.equal(a, b) for a, b in zip(after, again, strict=True))
        moved = [not torch.equal(a, b) for a, b in zip(after, before, strict=True)]
        changed.append(moved)
        for tensor, anew in zip(after, moved, strict=True):
            if anew and tensor.ndim == 1:
                assert not tensor.any()
            elif anew:
                bound = np.sqrt(6 / sum(tensor.shape))
                assert 0.3 * bound < tensor.abs().max() <= bound
    share = np.mean(changed, axis=0)
    assert np.all((share > 0.3) & (share < 0.7))


def test_an_epoch_is_a_pass_over_the_smaller_domain_up_to_1500() -> None:
    lengths = [UniMoS.epoch_length(CONFIG, *sizes) for sizes in ((9, 11), (3, 50), (9000, 7000))]
    assert lengths == [2, 1, 1500]
