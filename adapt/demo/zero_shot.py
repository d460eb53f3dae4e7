"""Measure zero-shot accuracy on the test split of every domain of the drawn world."""

from __future__ import annotations

import open_clip
import torch
from torch import Tensor

from adapt.clip.captions import class_prompts
from adapt.compute.inference import predict
from adapt.data.base import ImageSet
from adapt.data.cache import pixels
from adapt.data.class_folders import read_domain
from adapt.data.drawn import DEMO_SETS, render
from adapt.data.transforms import MEAN, STD
from adapt.evaluation.evaluate import score
from adapt.settings.config import TrainConfig
from adapt.settings.layers import resolve


def prompts(data_set: str) -> tuple[str, ...]:
    """Return the captions of a data set's classes, as zero-shot evaluation uses them."""
    template = resolve(TrainConfig, data_set, "zero_shot").config.prompt
    return class_prompts(sorted(DEMO_SETS[data_set].classes), template)


def held_out_splits() -> dict[str, list[ImageSet]]:
    """Return the test images of every domain, by data set."""
    roots = {name: render(name) / "test" for name in DEMO_SETS}
    return {
        name: [read_domain(root, folder.name) for folder in sorted(root.iterdir())]
        for name, root in roots.items()
    }


@torch.no_grad()
def accuracies(
    model: open_clip.CLIP, tokenizer: open_clip.SimpleTokenizer, splits: dict[str, list[ImageSet]]
) -> dict[str, float]:
    """Return the zero-shot accuracy per domain, in percent; leaves the model in eval mode.

    Args:
        model: Model of open_clip.
        tokenizer: Tokenizer of the model.
        splits: Test images by data set, from `held_out_splits`.
    """
    model.eval()
    result = {}
    for name, domains in splits.items():
        text = model.encode_text(tokenizer(list(prompts(name))), normalize=True)  # (C, D)

        def cosines(images: Tensor, text: Tensor = text) -> Tensor:
            features: Tensor = model.encode_image(images, normalize=True)
            return features @ text.T

        for images in domains:
            content = pixels(images, 32)
            logits = predict(cosines, content.images, 500, mean=MEAN, std=STD)
            scores = score(logits, images.labels[content.positions], images.classes)
            if scores is not None:
                result[images.domain] = round(scores.accuracy, 2)
    return result
