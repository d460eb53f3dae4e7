"""Small image folders and small CLIP models for the training tests."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from open_clip.model import CLIP
from PIL import Image

from adapt.clip.model import Clip, encoder_tensors
from adapt.data import DomainPair, load_folders
from adapt.methods.cmkd import CMKDConfig
from adapt.training.loop import Loop
from runtime.frames import formats
from runtime.models import BaseModel
from runtime.storage.digest import tensors_sha256

CLASSES = ("bee", "cup", "dog")
VISION = {
    "resnet": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16},
    "vit": {"image_size": 32, "patch_size": 16, "width": 32, "layers": 2, "head_width": 16},
}
TEXT = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1}


def draw(root: Path, domain: str, tint: int, labelled: bool = True, count: int = 9) -> None:
    """Write `count` noisy 24 x 24 images per class; the class shows in the brightest channel."""
    for label, name in enumerate(CLASSES):
        folder = root / domain / name if labelled else root / domain
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            noise = np.random.default_rng([tint, label, number])
            pixels = noise.integers(0, 120, (24, 24, 3))
            pixels[..., label] += 60 + tint
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{name}{number}.png")


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of three classes: domains `day` and `night`, and `fog` without labels."""
    root = tmp_path_factory.mktemp("data") / "street"
    draw(root, "day", 60)
    draw(root, "night", 10)
    draw(root, "fog", 30, labelled=False)
    return root


@pytest.fixture
def cache(uda_cache: Path) -> Iterator[Path]:
    """The cache folder; one torch thread, as on the smallest machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield uda_cache
    torch.set_num_threads(threads)


@pytest.fixture
def pair(images: Path, cache: Path) -> DomainPair:
    """The task day-night, tested on the images it adapts to."""
    return load_folders(images, "day", "night")


@pytest.fixture
def config() -> CMKDConfig:
    """CMKD for ten iterations of eight images."""
    return CMKDConfig(
        model="demo-rn32",
        pretrained="demo",
        batch_size=8,
        epochs=2,
        iterations=5,
        lr=1e-3,
        head_lr_multiplier=10.0,
        ramp_iterations=10,
        rst_threshold=1e-4,
        train_size=36,
        eval_batch_size=16,
    )


@pytest.fixture
def rst_config(config: CMKDConfig) -> CMKDConfig:
    """The same with RST."""
    return replace(config, rst=True)


def make_clip(kind: str) -> Clip:
    """Return a small `resnet` or `vit` CLIP with random, always equal weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CLIP(embed_dim=16, vision_cfg=VISION[kind], text_cfg=TEXT).eval()
    if kind == "resnet":  # statistics that are not the initial ones
        for module in model.visual.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.add_(0.1)
                module.running_var.mul_(1.2)
    digest = tensors_sha256(encoder_tensors(model.visual))
    return Clip(
        info=BaseModel(f"small-{kind}", "random", digest),
        visual=model.visual,
        image_size=32,
        dim=16,
        logit_scale=20.0,
        mean=open_clip.OPENAI_DATASET_MEAN,
        std=open_clip.OPENAI_DATASET_STD,
        _model=model,
        _tokenizer=open_clip.SimpleTokenizer(context_length=8),
    )


@pytest.fixture
def small_clip() -> Callable[[str], Clip]:
    """A function from `resnet` or `vit` to a small CLIP, see `make_clip`."""
    return make_clip


@pytest.fixture
def prompts() -> Sequence[str]:
    """Captions of the three classes."""
    return tuple(f"a photo of a {name}" for name in CLASSES)


@pytest.fixture
def without_heif(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if the extra [heif] were not installed."""
    caches = formats.register, formats.readable
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for cached in caches:
        cached.cache_clear()
    yield
    monkeypatch.undo()
    for cached in caches:
        cached.cache_clear()


@pytest.fixture
def stop_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """A function that sends this process a signal in the middle of an iteration, from 0."""
    step = Loop.__init__

    def arm(iteration: int, number: signal.Signals = signal.SIGINT) -> None:
        def init(self: Loop, *args: object) -> None:
            step(self, *args)
            # EKDA's step does not call `losses`; this is between its teacher and its student.
            name = "student_losses" if hasattr(self.method, "student_losses") else "losses"
            losses = getattr(self.method, name)

            def stopping(*batches: object) -> object:
                if self.iteration == iteration:
                    os.kill(os.getpid(), number)
                return losses(*batches)

            setattr(self.method, name, stopping)

        monkeypatch.setattr(Loop, "__init__", init)

    yield arm
    monkeypatch.undo()
