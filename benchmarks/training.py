"""Training steps per second of CMKD + RST against a plain re-implementation, end to end.

    python -m benchmarks.training --folder FOLDER

Both train from the same image files with the same batch sizes, alternating step by step in one
process; on a GPU a compiled variant follows, beside the plain one. With `--json` the file is
written again after every round of steps. Memory is the peak of a process of its own. Random weights
at full size: timings need no real ones. Without a GPU ViT-B/16 is bound by its float32 matrix
products, which both sides take from the same library: only a coarser precision makes that faster.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from PIL import Image

from adapt.clip import model as base_models
from adapt.clip.captions import class_prompts
from adapt.clip.model import Clip
from adapt.compute.device import exact_float32
from adapt.data import DomainPair, load, load_folders
from adapt.data.cache import pixels
from adapt.methods.cmkd import CMKD, CMKDConfig
from adapt.optim import rst
from adapt.optim.optimization import Optimization
from adapt.settings.limits import check_precision
from adapt.training.batches import Stream
from benchmarks._plain_cmkd import Plain
from benchmarks._random import random_clip
from runtime.benchmark.latency import peak_rss
from runtime.console import UdaGroup, bytes_text, table, write_json

THRESHOLD = 2.5e-5


@dataclass(frozen=True)
class Case:
    """One model and its batch."""

    name: str
    config: CMKDConfig
    steps: int
    digits: bool = False
    """Whether the images are the demo's digits, which need matplotlib, and not photographs."""


SHARED = {"rst": True, "rst_threshold": THRESHOLD, "lr": 3e-4, "head_lr_multiplier": 10.0}
DEMO = CMKDConfig(model="demo-rn32", pretrained="demo", train_size=32, pad=2, flip=False, **SHARED)
VIT = CMKDConfig(model="ViT-B-16-quickgelu", batch_size=8, **SHARED)
CASES = {
    "demo": Case("demo-rn32, 32 + 32", DEMO, 60, digits=True),
    "small": Case("demo-rn32 on photographs, 32 + 32", DEMO, 4),
    "vit": Case("ViT-B/16, 8 + 8", VIT, 6),
    "vit32": Case("ViT-B/16, 32 + 32", replace(VIT, batch_size=32), 30),
}
"""Cases to measure; the weights of ViT-B/16 are random."""


class Ours:
    """The parts that the training loop runs in every iteration."""

    def __init__(self, clip: Clip, pair: DomainPair, config: CMKDConfig, device: str) -> None:
        """Build what `adapt.training.loop.Loop` builds."""
        torch_device = torch.device(device)
        check_precision(config, device)
        self.method = CMKD(clip, class_prompts(pair.task.classes, config.prompt), config).train()
        self.optimization = Optimization(
            self.method.parameter_groups(), config, rst.over(self.method.encoder, config)
        )
        self.streams = []
        for role in ("source", "target"):
            images = getattr(pair, role)
            found = pixels(
                images, config.train_size, config.resize, config.interpolation, config.background
            )
            labels = images.labels[found.positions] if role == "source" else None
            self.streams.append(
                Stream(role, found.images, labels, config, clip, torch_device, digest=found.key)
            )
        self.t = 0

    def step(self) -> None:
        """Do one iteration."""
        self.optimization.set_factor(self.method.schedule(self.t))
        batches = [stream.batch(self.t) for stream in self.streams]
        terms = self.method.training_step(*batches, self.t, self.optimization)
        self.t += 1
        torch.stack(list(terms.values())).tolist()


def pictures(folder: Path) -> Path:
    """Return a data set of two domains of JPEG photographs' size, smooth noise, drawn once."""
    root = folder / "pictures"
    draw = np.random.default_rng(0)
    for domain in ("a", "b"):
        for label in range(5):
            for number in range(32):
                path = root / domain / f"class{label}" / f"{number:02}.jpg"
                if not path.exists():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    small = draw.integers(0, 256, (12, 16, 3), np.uint8)
                    Image.fromarray(small).resize((400, 300), Image.Resampling.BICUBIC).save(path)
    return root


def variants(case: Case, device: str, folder: Path) -> list[dict[str, Callable[[], Any]]]:
    """Return the ways to train by name, each a function that builds it, in groups to measure."""
    config = case.config
    if config.pretrained != "demo":
        config = replace(config, pretrained=str(random_clip(config.model, folder)))

    def clip() -> Clip:
        return base_models.load(config.model, config.pretrained, device)

    if case.digits:
        pair = load("demo-digits", "f-h")
    else:
        pair = load_folders(pictures(folder), "a", "b")
    roots = tuple(images.paths[0].parents[1] for images in (pair.source, pair.target))
    low = replace(config, amp="bf16", grid="bf16")
    found: list[dict[str, Callable[[], Any]]] = [
        {
            "plain": lambda: Plain(clip(), roots, config, device),
            "ours": lambda: Ours(clip(), pair, config, device),
            "ours, bf16 on its grid": lambda: Ours(clip(), pair, low, device),
        }
    ]
    if device != "cpu":  # apart, since it takes a minute to compile
        compiled = replace(low, compile=True)
        found.append(
            {
                "plain": lambda: Plain(clip(), roots, config, device),
                "ours, bf16, compiled": lambda: Ours(clip(), pair, compiled, device),
            }
        )
    return found


def measure(made: Mapping[str, Callable[[], Any]], steps: int) -> Iterator[dict[str, list[float]]]:
    """Yield seconds per step of each variant so far, interleaved, after every round but the first.

    Args:
        made: Functions that build the variants.
        steps: Number of rounds.
    """
    built = {name: make() for name, make in made.items()}
    times: dict[str, list[float]] = {name: [] for name in built}
    for number in range(steps + 1):
        for name, trainer in built.items():
            started = time.perf_counter()
            trainer.step()
            if number >= 1:
                times[name].append(time.perf_counter() - started)
        if number >= 1:
            yield times


def rows_of(case: Case, times: Mapping[str, list[float]]) -> dict[str, dict[str, Any]]:
    """Return what is known of each variant by name, without its memory."""
    return {
        name: {
            "case": case.name,
            "variant": name,
            "step_ms": 1000 * statistics.median(values),
            "steps_per_second": 1 / statistics.median(values),
            # Step by step: what else the machine does then weighs on both sides.
            "ratio": statistics.median(p / v for p, v in zip(times["plain"], values, strict=True)),
            "steps": len(values),
            "peak_bytes": None,
        }
        for name, values in times.items()
    }


def peak(key: str, name: str, device: str, folder: Path, threads: int) -> int:
    """Return the peak memory in bytes of a process that does two steps of one variant."""
    command = [sys.executable, "-m", "benchmarks.training", "--folder", str(folder)]
    command += ["--case", key, "--device", device, "--threads", str(threads), "--memory-of", name]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(json.loads(done.stdout.splitlines()[-1])["peak"])


def show(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the rows as a table."""
    header = ("model, batch", "variant", "ms a step", "steps/s", "to plain", "peak memory")
    return table(
        header,
        [
            (
                row["case"],
                row["variant"],
                f"{row['step_ms']:.1f}",
                f"{row['steps_per_second']:.2f}",
                f"{row['ratio']:.2f} x",
                "-" if row["peak_bytes"] is None else bytes_text(row["peak_bytes"]),
            )
            for row in rows
        ],
    )


@click.group(cls=UdaGroup, invoke_without_command=True)
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option(
    "--case", "keys", type=click.Choice(list(CASES)), multiple=True, default=("demo", "vit"),
    show_default=True,
)  # fmt: skip
@click.option("--device", default="cpu", show_default=True)
@click.option("--threads", type=int, default=2, show_default=True)
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--memory/--no-memory", default=True, help="Also the peak, in processes of its own.")
@click.option("--memory-of", hidden=True)
def main(
    folder: Path,
    keys: tuple[str, ...],
    device: str,
    threads: int,
    json_file: Path | None,
    memory: bool,
    memory_of: str | None,
) -> None:
    """Compare training steps per second."""
    torch.set_num_threads(threads)
    if memory_of:
        with exact_float32():
            groups = variants(CASES[keys[0]], device, folder)
            trainer = next(group[memory_of] for group in groups if memory_of in group)()
            for _ in range(2):
                trainer.step()
        cuda = device != "cpu"
        used = torch.cuda.max_memory_allocated() if cuda else 0
        used = used or peak_rss()
        click.echo(json.dumps({"peak": used}))
        return
    found: dict[tuple[str, str], dict[str, Any]] = {}

    def save() -> None:
        if json_file:
            rows = list(found.values())
            write_json(json_file, {"device": device, "threads": threads, "rows": rows})

    for key in keys:
        case = CASES[key]
        with exact_float32():
            for group in variants(case, device, folder):
                new = [(key, name) for name in group if (key, name) not in found]
                for times in measure(group, case.steps):
                    rows = rows_of(case, times)
                    found |= {(key, name): rows[name] for key, name in new}
                    save()
        for (other, name), row in found.items():
            if memory and other == key:
                row["peak_bytes"] = peak(key, name, device, folder, threads)
                save()
    click.echo(show(found.values()))


if __name__ == "__main__":
    main()
