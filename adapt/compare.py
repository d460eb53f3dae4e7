"""All variants of one task, judged on the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from adapt import clip as base_models
from adapt.artifact import Artifact
from adapt.clip import Clip
from adapt.data import DomainPair, class_prompts
from adapt.data.cache import pixels
from adapt.device import exact_float32
from adapt.evaluate import Scores, predict, score
from adapt.heads import CosineHead
from adapt.merge import Network
from runtime.console import bytes_text
from runtime.errors import DataError, FormatError

ZERO_SHOT = "zero_shot"


@dataclass(frozen=True)
class Line:
    """One variant. Accuracies are percentages, None where no label is known."""

    variant: str
    seed: int | None
    accuracy: float | None
    """Of the weights in the artifact, which are the last epoch's; measured now."""
    oracle_best: float | None
    """Of the epoch chosen on the test labels; from the artifact."""
    mean_per_class: float | None
    density: float
    """Changed over all encoder parameters, in [0, 1]."""
    file_bytes: int | None
    images: int
    """Labelled test images."""

    def as_dict(self) -> dict[str, Any]:
        """Return the line, JSON-serialisable."""
        return asdict(self)


@exact_float32()
def compare(
    pair: DomainPair,
    files: Mapping[str, Path],
    settings: Mapping[str, Any],
    device: str = "cpu",
    pretrained: str | None = None,
) -> list[Line]:
    """Return zero-shot CLIP, computed here and now, and every trained variant.

    Args:
        pair: The task's images; only `test` is read.
        files: Artifacts by variant.
        settings: Of zero-shot, and those that `pair` was split with.
        device: Where to compute.
        pretrained: The bases' weights, if they are not where training found them.

    Raises:
        DataError: An artifact's training knew other test images, so it may have trained on these.
        UdaError: An artifact is damaged, belongs to another task's classes, or its base is missing.
    """
    digest = pair.test.digest()
    found = {name: Artifact.load(path) for name, path in files.items()}
    bases: dict[tuple[str, str], Clip] = {}

    def base(config: Mapping[str, Any]) -> Clip:
        key = config["model"], pretrained or config["pretrained"]
        if key not in bases:
            bases[key] = base_models.load(*key, device)
        return bases[key]

    lines = [_zero_shot(base(settings), pair, settings, device)]
    for name, artifact in found.items():
        if name == ZERO_SHOT:
            continue
        if artifact.task != pair.task:
            raise FormatError(
                f"'{files[name]}' was trained for {artifact.task.dataset} {artifact.task.id} with "
                f"{len(artifact.task.classes)} classes, which these images do not have; train again"
            )
        config = artifact.config
        if artifact.metrics["data"]["test"] != digest:
            raise DataError(
                f"'{files[name]}' kept other target images out of its training (holdout "
                f"{config['holdout']:g}, seed {artifact.seed}) than are judged here (holdout "
                f"{settings['holdout']:g}, seed {settings['seed']}), or the images have changed; "
                "train all variants with the same --seed and holdout, or move this one away"
            )
        clip = base(config)
        network = Network.of(clip, artifact).to(device)
        lines.append(
            _line(
                name,
                _scores(clip, network, pair, config, device),
                seed=artifact.seed,
                oracle_best=artifact.metrics["oracle_best"]["accuracy"],
                density=artifact.density,
                file_bytes=files[name].stat().st_size,
            )
        )
    return lines


def _line(name: str, scores: Scores | None, **others: Any) -> Line:
    if scores is None:
        return Line(variant=name, accuracy=None, mean_per_class=None, images=0, **others)
    return Line(
        variant=name,
        accuracy=scores.accuracy,
        mean_per_class=scores.mean_per_class,
        images=scores.images,
        **others,
    )


def _zero_shot(clip: Clip, pair: DomainPair, config: Mapping[str, Any], device: str) -> Line:
    prompts = class_prompts(pair.task.classes, config["prompt"], pair.task.target)
    head = CosineHead.of(clip.text_features(prompts), clip.logit_scale)
    scores = _scores(clip, Network(clip.visual, head), pair, config, device)
    best = None if scores is None else scores.accuracy
    return _line(ZERO_SHOT, scores, seed=None, oracle_best=best, density=0.0, file_bytes=None)


def _scores(
    clip: Clip,
    network: nn.Module,
    pair: DomainPair,
    config: Mapping[str, Any],
    device: str,
) -> Scores | None:
    test = pixels(pair.test, clip.image_size, config["resize"], config["interpolation"])
    size = config["eval_batch_size"]
    found = predict(network, test.images, size, device, mean=clip.mean, std=clip.std)
    return score(found, pair.test.labels[test.kept], pair.task.classes)


def rows(lines: Sequence[Line]) -> list[list[str]]:
    """Return the lines as cells of a table, for people."""

    def percent(value: float | None) -> str:
        return "-" if value is None else f"{value:.2f}"

    return [
        [
            line.variant,
            percent(line.accuracy),
            percent(line.oracle_best),
            percent(line.mean_per_class),
            f"{100 * line.density:.3f}",
            "-" if line.file_bytes is None else bytes_text(line.file_bytes),
        ]
        for line in lines
    ]


HEADER = ("variant", "last %", "oracle-best %", "per class %", "density %", "file")
