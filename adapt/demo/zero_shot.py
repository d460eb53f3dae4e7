"""Zero-shot accuracy of a model on the test split of every domain of the drawn world."""

from pathlib import Path

import numpy as np
import torch
from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from PIL import Image
from torch import Tensor, nn

from adapt.demo.datasets import DEMO_SETS, render

PROMPTS = {"demo-digits": "an image of the number {}", "demo-objects": "an image of a {}"}
"""Data set to the prompt that its class names are put in."""


def class_prompts(name: str) -> list[str]:
    """Return one prompt per class of a data set, in label order."""
    return [PROMPTS[name].format(class_name) for class_name in DEMO_SETS[name].classes]


def normalize(images: Tensor) -> Tensor:
    """Turn pixels (N, 3, S, S) uint8 into CLIP's input: float, minus mean, over deviation."""
    mean = torch.tensor(OPENAI_DATASET_MEAN).view(1, 3, 1, 1)
    deviation = torch.tensor(OPENAI_DATASET_STD).view(1, 3, 1, 1)
    return (images.float() / 255 - mean) / deviation


def held_out_splits() -> dict[str, dict[str, tuple[Tensor, Tensor]]]:
    """Return data set -> domain -> pixels (N, 3, 32, 32) uint8 and labels (N,)."""
    return {
        name: {
            folder.name: _read_folder(folder, DEMO_SETS[name].classes)
            for folder in sorted((render(name) / "test").iterdir())
        }
        for name in DEMO_SETS
    }


@torch.no_grad()
def accuracies(
    model: nn.Module,
    tokenizer: nn.Module,
    splits: dict[str, dict[str, tuple[Tensor, Tensor]]],
) -> dict[str, float]:
    """Return the percentage of right zero-shot answers per domain; leaves the model in eval mode.

    Args:
        model: An open_clip model.
        tokenizer: Its tokenizer.
        splits: What `held_out_splits` returned.
    """
    model.eval()
    result = {}
    for name, domains in splits.items():
        text = model.encode_text(tokenizer(class_prompts(name)), normalize=True)  # (C, D)
        for domain, (images, labels) in domains.items():
            features = torch.cat(
                [model.encode_image(normalize(part), normalize=True) for part in images.split(500)]
            )
            right = (features @ text.T).argmax(1) == labels
            result[domain] = round(100 * right.float().mean().item(), 2)
    return result


def _read_folder(folder: Path, classes: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    images, labels = [], []
    for label, class_name in enumerate(classes):
        for path in sorted((folder / class_name).iterdir()):
            with Image.open(path) as image:
                images.append(np.asarray(image))
            labels.append(label)
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return pixels, torch.tensor(labels)
