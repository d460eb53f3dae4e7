"""A plain UniMoS to compare speed with: its equations one after the other.

Two passes, two optimizers that walk through their parameters, a Python loop for the centroids.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from adapt.methods.base import Batch
from adapt.methods.unimos import UniMoS
from adapt.training.batches import Stream


class Plain:
    """UniMoS on the features, streams and settings of the real one."""

    def __init__(self, method: UniMoS, source: Stream, target: Stream) -> None:
        self.config, self.iteration = method.config, 0
        self.source, self.target = source, target
        self.x_s, self.x_t = method.source_bank, method.target_bank
        self.text, device = method.text, method.text.device
        (classes, dim), width = self.text.shape, self.config.width
        self.vac, self.lac = (nn.Linear(dim, dim) for _ in range(2))
        self.bottleneck, self.norm = nn.Linear(dim, width), nn.BatchNorm1d(width)
        self.classifier = parametrizations.weight_norm(nn.Linear(width, classes))
        nn.init.zeros_(self.classifier.bias)
        nn.init.xavier_normal_(self.bottleneck.weight)
        nn.init.zeros_(self.bottleneck.bias)
        self.generator = nn.Sequential(nn.Linear(dim, width), nn.Linear(width, 1), nn.Sigmoid())
        self.discriminator = nn.Sequential(
            nn.Linear(dim, width), nn.ReLU(), nn.Dropout(0.5), nn.Linear(width, 1)
        )
        self.all = nn.ModuleList(
            [self.vac, self.lac, self.bottleneck, self.norm, self.classifier, self.generator,
             self.discriminator]
        ).to(device)  # fmt: skip
        self.prior = torch.full((classes,), 1 / classes, device=device)
        self.pseudo = (self.x_t @ self.text.T).argmax(-1)
        separators = [*self.vac.parameters(), *self.lac.parameters()]
        plain = {"lr": self.config.lr, "momentum": 0.9, "foreach": False, "fused": False}
        self.first = torch.optim.SGD([*self.all.parameters()], **plain)
        self.second = torch.optim.SGD(separators, **plain)

    @torch.no_grad()
    def take(self, method: UniMoS) -> None:
        """Start from the same weights."""
        net = method.network
        weights, biases = net.separators.weight.chunk(2), net.separators.bias.chunk(2)
        for layer, weight, bias in zip((self.vac, self.lac), weights, biases, strict=True):
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
        self.bottleneck.load_state_dict(net.bottleneck.state_dict())
        self.classifier.weight = net.classifier()
        for mine, theirs in (
            (self.generator, net.generator),
            (self.discriminator, net.discriminator),
        ):
            for own, other in zip(mine.parameters(), theirs.parameters(), strict=True):
                own.copy_(other)

    def step(self) -> None:
        i = self.iteration
        if i % self.config.iterations == 0:
            self.start_epoch(i // self.config.iterations)
        self.all.train()
        for group in (*self.first.param_groups, *self.second.param_groups):
            group["lr"] = self.config.lr * (1 + 0.001 * i) ** -0.75
        source, target = self.source.batch(i), self.target.batch(i)
        one, two = self.losses(source, target)
        self.second.zero_grad()
        two.backward(retain_graph=True)
        gradients = [p.grad for p in self.second.param_groups[0]["params"]]
        self.first.zero_grad()
        one.backward()
        self.first.step()
        for parameter, gradient in zip(
            self.second.param_groups[0]["params"], gradients, strict=True
        ):
            parameter.grad = gradient
        self.second.step()
        one.item(), two.item()
        self.iteration = i + 1

    def losses(self, source: Batch, target: Batch) -> tuple[Tensor, Tensor]:
        c = self.config
        x_s = torch.stack([self.x_s[i] for i in source.indices])
        x_t = torch.stack([self.x_t[i] for i in target.indices])
        v_s, v_t, u_s, u_t = self.vac(x_s), self.vac(x_t), self.lac(x_s), self.lac(x_t)
        o = self.classifier(self.norm(self.bottleneck(torch.cat([v_s, v_t]))))
        o_s, o_t = o[: len(x_s)], o[len(x_s) :]
        l_s, l_t = (c.temperature * u @ self.text.T for u in (u_s, u_t))
        z = c.temperature * x_t @ self.text.T
        self.prior = 0.99 * self.prior + 0.01 * l_t.detach().softmax(-1).mean(0)
        w = self.generator(v_t).mean()
        e = w * o_t + (1 - w) * l_t.detach()
        lac = c.alpha * functional.cross_entropy(l_s, source.labels) + functional.kl_div(
            z.log_softmax(-1), l_t.log_softmax(-1), reduction="batchmean", log_target=True
        )
        pseudo = self.pseudo[target.indices]
        vac = c.beta * functional.cross_entropy(o_s, source.labels)
        vac = vac + functional.cross_entropy(e, pseudo)
        p = e.softmax(-1)
        mean = p.mean(0)
        im = -(p * (p + 1e-5).log()).sum(-1).mean() + (mean * (mean + 1e-5).log()).sum()
        apart = ((u_s * v_s).sum(-1) ** 2).sum() + ((u_t * v_t).sum(-1) ** 2).sum()
        first = lac + vac + im + c.gamma * (apart + self.discrimination(v_s, u_s))
        return first, c.gamma * self.discrimination(v_t, u_t)

    def discrimination(self, v: Tensor, u: Tensor) -> Tensor:
        truth = torch.cat([torch.zeros(len(v)), torch.ones(len(u))]).to(v.device)
        logits = self.discriminator(torch.cat([v, u])).squeeze(-1)
        return functional.binary_cross_entropy_with_logits(logits, truth)

    @torch.no_grad()
    def start_epoch(self, epoch: int) -> None:
        if epoch >= 2:
            self.pseudo = self.labels(epoch - 1)
        for parameter in self.generator.parameters():
            if torch.rand(()) < 0.5:
                zero = parameter.ndim == 1
                nn.init.zeros_(parameter) if zero else nn.init.xavier_uniform_(parameter)

    @torch.no_grad()
    def evaluate(self, epoch: int) -> tuple[Tensor, Tensor]:
        self.all.eval()
        features, logits = [], []
        a = max(0.3, 0.8 - 0.05 * epoch)
        for x in self.x_t.split(self.config.batch_size):
            f = self.norm(self.bottleneck(self.vac(x)))
            t = self.config.temperature * self.lac(x) @ self.text.T - 0.5 * self.prior.log()
            features.append(functional.normalize(f, dim=-1))
            logits.append(a * self.classifier(f) + (1 - a) * t)
        return torch.cat(features), torch.cat(logits)

    def labels(self, epoch: int) -> Tensor:
        features, logits = self.evaluate(epoch)
        if epoch % 2 == 0:
            return logits.argmax(-1)
        p = logits.softmax(-1)
        total = torch.zeros(len(self.text), features.shape[1], device=p.device)
        mass = torch.zeros(len(self.text), device=p.device)
        for i in range(len(p)):
            total += p[i][:, None] * features[i]
            mass += p[i]
        centroids = functional.normalize(total / (1e-8 + mass)[:, None], dim=-1)
        return torch.stack([(centroids @ f).argmax() for f in features])
