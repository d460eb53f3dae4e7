"""Compare an iteration of UniMoS with a plain implementation of the same equations.

    python -m benchmarks.unimos [--epochs 6] [--threads 1] [--device cpu] [--json FILE]

Office-Home A->C by its numbers: 2,427 and 4,365 random unit features of 1,024 dimensions, 65
classes, batches of 32 + 32, 75 iterations per epoch (the paper trains 50 epochs: 3,750). Both sides
do whole epochs, interleaved, labelling included, and everything that the training loop does around
a step is in ours. Before timing, a few steps from the same weights (without dropout's terms) show
that both compute the same. On a machine that others use too, CPU seconds tell more than seconds.

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

from adapt.clip.model import Clip
from adapt.compute.seeds import draw_seed
from adapt.methods.unimos import UniMoS, UniMoSConfig
from adapt.optim.optimization import Optimization
from adapt.training.batches import Stream
from adapt.training.record import Meter
from benchmarks._plain_unimos import Plain
from runtime.benchmark.latency import machine
from runtime.console import table, write_json
from runtime.models import BaseModel

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


def difference(device: torch.device) -> float:
    """Return how far the two are apart after three steps, relative to the largest logit."""
    ours = Ours(replace(CONFIG, gamma=0.0), device)
    ours.method.start_epoch(0)
    plain = Plain(ours.method, ours.source, ours.target)
    plain.take(ours.method)
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
    """Train ours and the plain one, interleaved, and print iterations per second."""
    torch.set_num_threads(threads)
    torch_device = torch.device(device)
    apart = difference(torch_device)
    ours = Ours(CONFIG, torch_device)
    sides: dict[str, Any] = {"ours": ours, "plain": Plain(ours.method, ours.source, ours.target)}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    busy: dict[str, list[float]] = {name: [] for name in sides}
    for epoch in range(epochs):
        for name in sorted(sides, reverse=bool(epoch % 2)):
            started, used = time.perf_counter(), time.process_time()
            for _ in range(LENGTH):
                sides[name].step()
            if torch_device.type == "cuda":
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
