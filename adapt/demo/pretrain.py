"""Pre-train a small CLIP on captioned drawings and write the weights that the package ships.

    python -m adapt.demo.pretrain --model demo-rn32 --seed 0

draws 40,000 pictures, trains on one CPU thread for 4 to 20 minutes and writes
`weights/<model>.safetensors` and `weights/<model>.log` beside this file. The log has one JSON
document per line: the recipe, every epoch, and what the written file scores when read back.
"""

import argparse
import json
import math
import os
import platform
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from adapt.clip import demo_weights
from adapt.data.drawn import DEMO_SETS
from adapt.data.transforms import normalise
from adapt.demo.zero_shot import accuracies, held_out_splits, prompts
from adapt.drawing import jobs
from runtime.storage.files import sha256
from runtime.storage.writing import write_bytes

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Recipe:
    """How one model is pre-trained."""

    epochs: int
    bf16: bool
    """Run the forward pass under bf16 autocast; helps transformers, does nothing for ResNets."""
    images: int = 40_000
    batch: int = 256
    learning_rate: float = 2e-3
    """Peak of a cosine schedule."""
    warmup: int = 100
    """Steps of linear warm-up."""
    weight_decay: float = 0.1
    """On matrices other than embeddings."""


RECIPES = {
    "demo-rn32": Recipe(8, bf16=False),
    "demo-vit32": Recipe(12, bf16=True),
    "demo-vit32-wide": Recipe(15, bf16=True, batch=128, warmup=200),
}
"""Model name to its recipe."""


def draw_corpus(seed: int, count: int) -> tuple[Tensor, list[str]]:
    """Return pictures (count, 3, 32, 32) uint8 and their captions; count is a multiple of 8.

    The pictures keep the renderer's channels-last memory, which every later step inherits.
    """
    share = count // 8
    parts = [
        jobs.Job("adapt.drawing.corpus:captioned", (1000 * seed + part, share), share)
        for part in range(8)
    ]
    images, captions = zip(*jobs.run(parts, "drawing the corpus"), strict=True)
    drawn = torch.from_numpy(np.concatenate(images)).permute(0, 3, 1, 2)
    return drawn, np.concatenate(captions).tolist()


def train(
    model: open_clip.CLIP, images: Tensor, tokens: Tensor, recipe: Recipe, after_epoch: Report
) -> None:
    """Train a model contrastively, in place.

    Args:
        model: Model of open_clip.
        images: Pictures (N, 3, S, S) uint8.
        tokens: Tokenized captions (N, L).
        recipe: Schedule and batch size.
        after_epoch: Called with the epoch's number, mean loss and logit scale.
    """
    optimizer = _optimizer(model, recipe)
    contrast = open_clip.ClipLoss()
    steps = len(images) // recipe.batch
    for epoch in range(recipe.epochs):
        model.train()
        order, total = torch.randperm(len(images)), 0.0
        description = f"epoch {epoch + 1} of {recipe.epochs}"
        console = Console(stderr=True)
        quiet = not console.is_terminal
        bar = track(range(steps), description, console=console, transient=True, disable=quiet)
        for step in bar:
            chosen = order[step * recipe.batch : (step + 1) * recipe.batch]
            rate = _learning_rate(recipe, epoch * steps + step, recipe.epochs * steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            batch = augment(images[chosen])
            with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bf16):
                image_features, text_features, scale = model(batch, tokens[chosen])
            loss = contrast(image_features.float(), text_features.float(), scale)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                model.logit_scale.clamp_(0, math.log(100))
            total += loss.item()
        scale = model.logit_scale.exp().item()
        after_epoch({"epoch": epoch + 1, "loss": total / steps, "logit_scale": scale})


def augment(images: Tensor) -> Tensor:
    """Shift a batch (N, 3, S, S) uint8 by up to 2 pixels, vary contrast and colour; normalised.

    The shift is one for the whole batch. Mirroring is left to the renderer, which knows that
    digits must not be mirrored.
    """
    side = images.shape[-1]
    padded = F.pad(normalise(images.permute(0, 2, 3, 1)), (2, 2, 2, 2), mode="replicate")
    left, top = torch.randint(0, 5, (2,)).tolist()
    crop = padded[:, :, top : top + side, left : left + side]
    contrast = 1 + 0.2 * torch.randn(len(images), 1, 1, 1)
    return crop * contrast + 0.2 * torch.randn(len(images), 3, 1, 1)


def pretrain(name: str, seed: int, recipe: Recipe, out: Path, command: str) -> None:
    """Pre-train one model and write its weights and its log into the folder `out`."""
    lines = []

    def report(entry: dict[str, Any]) -> None:
        lines.append(json.dumps(entry))
        print(lines[-1], flush=True)

    images, captions = draw_corpus(seed, recipe.images)
    splits = held_out_splits()
    demo_weights.register()
    torch.manual_seed(seed)
    model = open_clip.create_model(name)
    tokenizer = open_clip.get_tokenizer(name)
    tokens = tokenizer(captions)
    report(
        {"model": name, "seed": seed, "command": command}
        | {"recipe": asdict(recipe), "torch": torch.__version__, "machine": platform.machine()}
    )

    def after_epoch(entry: dict[str, Any]) -> None:
        scores = accuracies(model, tokenizer, splits)
        cpu = round(sum(os.times()[:2]), 1)
        report({k: round(v, 4) for k, v in entry.items()} | {"zero_shot": scores, "cpu_s": cpu})

    with sdpa_kernel(SDPBackend.MATH):  # bf16 flash attention is many times slower on a CPU
        train(model, images, tokens, recipe, after_epoch)

    asked = tokenizer([prompt for data_set in DEMO_SETS for prompt in prompts(data_set)])
    rows = torch.cat([tokens, asked]).unique()
    metadata = {"architecture": name, "seed": seed, "epochs": recipe.epochs}
    metadata |= {"images": recipe.images, "command": command}
    path = out / f"{name}.safetensors"
    demo_weights.save_state_dict(
        path, model.state_dict(), rows, {k: str(v) for k, v in metadata.items()}
    )

    model.load_state_dict(demo_weights.load_state_dict(name, path))
    scores = accuracies(model, tokenizer, splits)
    content = path.read_bytes()
    report(
        {"file": path.name, "bytes": len(content), "sha256": sha256(content)}
        | {"token_rows": len(rows), "zero_shot": scores}
    )
    write_bytes(out / f"{name}.log", "".join(line + "\n" for line in lines).encode())


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m adapt.demo.pretrain", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--model", choices=sorted(RECIPES), required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default: 1)")
    parser.add_argument("--out", type=Path, default=demo_weights.FOLDER / "weights")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    command = shlex.join(["python", "-m", "adapt.demo.pretrain", *sys.argv[1:]])
    recipe = RECIPES[options.model]
    pretrain(options.model, options.seed, recipe, options.out, command)


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    decayed: list[Tensor] = []
    free: list[Tensor] = []
    for name, parameter in model.named_parameters():
        is_matrix = parameter.ndim >= 2 and "embedding" not in name
        (decayed if is_matrix else free).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups, lr=recipe.learning_rate, betas=(0.9, 0.98), eps=1e-6, fused=True
    )


def _learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    warm = min(1.0, (step + 1) / recipe.warmup)
    return recipe.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / steps))


if __name__ == "__main__":
    main()
