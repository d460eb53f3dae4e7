"""Models, images and ways to train that `benchmarks.training` compares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from adapt.clip import model as base_models
from adapt.clip.captions import class_prompts
from adapt.clip.model import Clip
from adapt.data import DomainPair, load, load_folders
from adapt.data.cache import pixels
from adapt.methods.cmkd import CMKD, CMKDConfig
from adapt.optim import rst
from adapt.optim.optimization import Optimization
from adapt.settings.limits import check_precision
from adapt.training.batches import Stream
from benchmarks._plain_cmkd import Plain
from benchmarks._random import random_clip

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
