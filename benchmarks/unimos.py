"""What an iteration of UniMoS costs, against a plain implementation of the same equations.

    python -m benchmarks.unimos [--epochs 6] [--threads 1] [--device cpu] [--json FILE]

Office-Home A->C by its numbers: 2,427 and 4,365 random unit features of 1,024 dimensions, 65
classes, batches of 32 + 32, 75 iterations per epoch (the paper trains 50 epochs: 3,750). Both sides
do whole epochs in turns, labelling included, and everything that the training loop does around a
step is in ours. The plain side is the paper's code without tricks: two passes, two optimizers that
walk through their parameters, a Python loop for the centroids. Before timing, a few steps from the
same weights (without dropout's terms) show that both compute the same. On a machine that others use
too, CPU seconds tell more than seconds.

The separators' products alone take two thirds of a step's arithmetic on either side; no ordering of
it saves them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from adapt.clip import Clip
from adapt.method import Batch
from adapt.methods.unimos import UniMoS, UniMoSConfig
from adapt.training.batches import Stream, draw_seed
from adapt.training.optimize import Optimization
from adapt.training.record import Meter
from runtime.bench import machine
from runtime.console import table, write_json
from runtime.spec import BaseModel

DIM, CLASSES, SOURCES, TARGETS = 1024, 65, 2427, 4365
LENGTH, PAPER = 75, 3750
CONFIG = UniMoSConfig(iterations=LENGTH)


def unit(rows: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(rows, DIM, generator=generator), dim=-1)


class Words(Clip):
    """A base model that knows random texts."""

    def text_features(self, prompts: Sequence[str]) -> Tensor:
        return unit(CLASSES, 9).to(next(self.visual.parameters()).device)


class Given(UniMoS):
    """UniMoS on features that nobody has to compute."""

    def bank(self, pixels: NDArray[np.uint8], key: str) -> Tensor:
        return unit(len(pixels), len(key)).to(self.text.device)


class Ours:
    """The real method, streams, optimizer and meter, in the order of the training loop."""

    def __init__(self, config: UniMoSConfig, device: torch.device) -> None:
        visual = nn.Linear(1, DIM).to(device)
        info = BaseModel("random", "none", "0" * 64)
        clip = Words(info, visual, 1, DIM, 100.0, (0.5,) * 3, (0.5,) * 3, visual, None)
        labels = np.random.default_rng(0).integers(0, CLASSES, SOURCES)
        self.config, self.meter, self.iteration = config, Meter(), 0
        self.source, self.target = (
            Stream(
                role, np.zeros((count, 1, 1, 3), np.uint8), known, config, clip, device,
                digest="" if known is None else "s", images=False,
            )
            for role, count, known in (("source", SOURCES, labels), ("target", TARGETS, None))
        )  # fmt: skip
        self.method = Given(clip, [""] * CLASSES, config)
        self.method.prepare(self.source, self.target)
        self.optimization = Optimization(self.method.parameter_groups(), config)

    def step(self) -> None:
        i, method = self.iteration, self.method
        torch.manual_seed(draw_seed(self.config.seed, "step", i))
        if i % LENGTH == 0:
            method.start_epoch(i // LENGTH)
        method.train()
        self.optimization.set_factor(method.schedule(i))
        terms = method.training_step(
            self.source.batch(i), self.target.batch(i), i, self.optimization
        )
        self.meter.add([{name: term.detach() for name, term in terms.items()}], i + 1)
        self.iteration = i + 1


class Plain:
    """The equations, one after the other."""

    def __init__(self, ours: Ours) -> None:
        self.config, self.iteration = ours.config, 0
        self.source, self.target = ours.source, ours.target
        self.x_s, self.x_t = ours.method.source_bank, ours.method.target_bank
        self.text, device = ours.method.text, ours.method.text.device
        width = self.config.width
        self.vac, self.lac = (nn.Linear(DIM, DIM) for _ in range(2))
        self.bottleneck, self.norm = nn.Linear(DIM, width), nn.BatchNorm1d(width)
        self.classifier = parametrizations.weight_norm(nn.Linear(width, CLASSES))
        nn.init.zeros_(self.classifier.bias)
        nn.init.xavier_normal_(self.bottleneck.weight)
        nn.init.zeros_(self.bottleneck.bias)
        self.generator = nn.Sequential(nn.Linear(DIM, width), nn.Linear(width, 1), nn.Sigmoid())
        self.judge = nn.Sequential(
            nn.Linear(DIM, width), nn.ReLU(), nn.Dropout(0.5), nn.Linear(width, 1)
        )
        self.all = nn.ModuleList(
            [self.vac, self.lac, self.bottleneck, self.norm, self.classifier, self.generator,
             self.judge]
        ).to(device)  # fmt: skip
        self.prior = torch.full((CLASSES,), 1 / CLASSES, device=device)
        self.pseudo = (self.x_t @ self.text.T).argmax(-1)
        separators = [*self.vac.parameters(), *self.lac.parameters()]
        plain = {"lr": self.config.lr, "momentum": 0.9, "foreach": False, "fused": False}
        self.first = torch.optim.SGD([*self.all.parameters()], **plain)
        self.second = torch.optim.SGD(separators, **plain)

    @torch.no_grad()
    def take(self, ours: Ours) -> None:
        """Start from the same weights."""
        net = ours.method.network
        for layer, rows in ((self.vac, slice(0, DIM)), (self.lac, slice(DIM, None))):
            layer.weight.copy_(net.separators.weight[rows])
            layer.bias.copy_(net.separators.bias[rows])
        self.bottleneck.load_state_dict(net.bottleneck.state_dict())
        self.classifier.weight = net.classifier()
        for mine, theirs in ((self.generator, net.generator), (self.judge, net.discriminator)):
            for own, other in zip(mine.parameters(), theirs.parameters(), strict=True):
                own.copy_(other)

    def step(self) -> None:
        i = self.iteration
        if i % LENGTH == 0:
            self.start_epoch(i // LENGTH)
        self.all.train()
        for group in (*self.first.param_groups, *self.second.param_groups):
            group["lr"] = self.config.lr * (1 + 0.001 * i) ** -0.75
        source, target = self.source.batch(i), self.target.batch(i)
        one, two = self.losses(source, target)
        self.second.zero_grad()
        two.backward(retain_graph=True)
        kept = [p.grad for p in self.second.param_groups[0]["params"]]
        self.first.zero_grad()
        one.backward()
        self.first.step()
        for parameter, gradient in zip(self.second.param_groups[0]["params"], kept, strict=True):
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
        first = lac + vac + im + c.gamma * (apart + self.told(v_s, u_s))
        return first, c.gamma * self.told(v_t, u_t)

    def told(self, v: Tensor, u: Tensor) -> Tensor:
        truth = torch.cat([torch.zeros(len(v)), torch.ones(len(u))]).to(v.device)
        logits = self.judge(torch.cat([v, u])).squeeze(-1)
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
        total = torch.zeros(CLASSES, features.shape[1], device=p.device)
        mass = torch.zeros(CLASSES, device=p.device)
        for i in range(len(p)):
            total += p[i][:, None] * features[i]
            mass += p[i]
        centroids = functional.normalize(total / (1e-8 + mass)[:, None], dim=-1)
        return torch.stack([(centroids @ f).argmax() for f in features])


def difference(device: torch.device) -> float:
    """Return how far the two are apart after three steps, relative to the largest logit."""
    ours = Ours(replace(CONFIG, gamma=0.0), device)
    ours.method.start_epoch(0)
    plain = Plain(ours)
    plain.take(ours)
    ours.iteration = plain.iteration = 1  # both would redraw the generator at 0
    for _ in range(3):
        ours.step()
        plain.step()
    ours.method.epoch.fill_(1)
    ours.method.eval()
    with torch.no_grad():
        found = ours.method.classify(ours.method.target_bank)
    expected = plain.evaluate(1)[1]
    return float((found - expected).abs().max() / expected.abs().max())


@click.command()
@click.option("--epochs", type=click.IntRange(min=2), default=6, show_default=True)
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(epochs: int, threads: int, device: str, json_file: Path | None) -> None:
    """Train ours and the plain one in turns and print iterations per second."""
    torch.set_num_threads(threads)
    place = torch.device(device)
    apart = difference(place)
    ours = Ours(CONFIG, place)
    sides: dict[str, Any] = {"ours": ours, "plain": Plain(ours)}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    busy: dict[str, list[float]] = {name: [] for name in sides}
    for epoch in range(epochs):
        for name in sorted(sides, reverse=bool(epoch % 2)):
            started, used = time.perf_counter(), time.process_time()
            for _ in range(LENGTH):
                sides[name].step()
            if place.type == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - started)
            busy[name].append(time.process_time() - used)
    found = {
        name: {
            "iterations_per_second": LENGTH / float(np.median(times)),
            "iterations_per_cpu_second": LENGTH / float(np.median(busy[name])),
            "cpu_seconds_for_the_paper": PAPER / LENGTH * float(np.mean(busy[name])),
        }
        for name, times in seconds.items()
    }
    clocks = {"ratio": seconds, "cpu_ratio": busy}
    ratios = {
        key: float(np.median(np.array(clock["plain"]) / np.array(clock["ours"])))
        for key, clock in clocks.items()
    }
    rows = [[name, *(f"{value:.1f}" for value in row.values())] for name, row in found.items()]
    header = ("", "it/s", "it per CPU s", f"CPU s for {PAPER} iterations")
    click.echo(table(header, rows))
    click.echo(
        f"\nmedians over {epochs} epochs; {ratios['ratio']:.2f} x, of CPU time "
        f"{ratios['cpu_ratio']:.2f} x; {threads} threads, {device}; difference {apart:.1e}"
    )
    if json_file:
        write_json(
            json_file,
            {**found, **ratios, "difference": apart, "epochs": epochs, "threads": threads,
             "device": device, "machine": machine()},
        )  # fmt: skip


if __name__ == "__main__":
    main()
