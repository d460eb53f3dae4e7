"""How well calibrated scores are: as they are, with sorted images, and with methods without labels.

Of these methods, PseudoCal (Hu et al., ICML 2024, PMLR 235:19304) treats mixtures of two images as
sorted ones, with the label that the task gives to the larger share; mixing features does the same
behind the encoder. The others choose the temperature at which the mean score is the share of images
on which two predictions agree: before and after a shift, or the task's and zero-shot CLIP's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks._monitoring_figures import Figure
from benchmarks._monitoring_world import View, World
from runtime.monitoring import confidence, reliability
from runtime.monitoring.confidence import softmax
from runtime.monitoring.gaussian import Features, unit

SORTED = (50, 100)
"""Numbers of sorted images."""
DRAWS = 60
"""Draws of sorted images, whose errors are averaged."""
SHARE = 0.65
"""Share of the image that gives a mixed one its label, as in the paper."""
SHIFT = 2
"""Pixels to the right and down."""
AFTER = "50 sorted images"
WITHOUT = ("PseudoCal", "mixed features", "agreement after a shift", "agreement with zero-shot")
SEEDS = "mean of two seeds"


def measure(world: World, seed: int) -> list[Figure]:
    """Return calibration errors (ECE) on held-out images, by task and method."""
    found = []
    for view in world.views:
        own = world.domains[view.own]
        logits, labels = view.look(own.test)[1], own.labels
        right = logits.argmax(-1) == labels
        errors = {
            "as they are": error(logits, right),
            **_with_labels(logits, labels, seed),
            **{name: error(logits, right, t) for name, t in temperatures(world, view, seed)},
        }
        found += [Figure("ECE, points", name, view.id, each) for name, each in errors.items()]
        area = 100 * reliability.area(softmax(logits).max(-1), right)
        found.append(Figure("AURC, points", "max softmax", view.id, area))
    return found


def error(logits: Features, right: NDArray[np.bool_], temperature: float = 1.0) -> float:
    """Return the ECE, in points, of logits (N, K) with a temperature."""
    scores = softmax(logits, temperature).max(-1)
    return 100 * reliability.calibration_error(scores, right)


def _with_labels(logits: Features, labels: NDArray[np.int64], seed: int) -> dict[str, float]:
    """Return mean errors on what was not sorted, over draws of what was."""
    right = logits.argmax(-1) == labels
    best = confidence.fit(logits, labels).temperature
    found = {}
    for count in SORTED:
        draw, errors = np.random.default_rng(seed), []
        for _ in range(DRAWS):
            rest = np.ones(len(labels), np.bool_)
            rest[draw.choice(len(labels), count, replace=False)] = False
            fitted = confidence.fit(logits[~rest], labels[~rest]).temperature
            errors.append(error(logits[rest], right[rest], fitted))
        found[f"{count} sorted images"] = float(np.mean(errors))
    return found | {"all sorted (oracle)": error(logits, right, best)}


def temperatures(world: World, view: View, seed: int) -> list[tuple[str, float]]:
    """Return the temperature of each method that needs no labels, from training images."""
    images = world.domains[view.own].train
    features, logits = view.look(images)
    predicted, draw = logits.argmax(-1), np.random.default_rng(seed)
    other = draw.permutation(len(images))
    apart = predicted != predicted[other]  # the paper mixes images of different classes

    def mixed(rows: NDArray[np.generic]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = SHARE * rows[apart].astype(np.float32) + (1 - SHARE) * rows[
            other
        ][apart].astype(np.float32)
        return found

    pictures = view.look(mixed(images).round().astype(np.uint8))[1]
    behind = view.head(mixed(features))
    shifted = np.pad(images, ((0, 0), (SHIFT, 0), (SHIFT, 0), (0, 0)), mode="edge")
    moved = view.look(np.ascontiguousarray(shifted[:, :-SHIFT, :-SHIFT]))[1].argmax(-1)
    with torch.inference_mode():
        text = world.clip.text_features(view.artifact.prompts).float().numpy()
    plain = (unit(world.base(images)) @ unit(text).T).argmax(-1)
    found = (
        confidence.fit(pictures, predicted[apart]).temperature,
        confidence.fit(behind, predicted[apart]).temperature,
        matching(logits, float((moved == predicted).mean())),
        matching(logits, float((plain == predicted).mean())),
    )
    return list(zip(WITHOUT, found, strict=True))


def matching(logits: Features, share: float) -> float:
    """Return the temperature at which the mean score of logits (N, K) is a share."""
    low, high = np.log(confidence.LEAST), np.log(confidence.MOST)
    for _ in range(40):
        middle = (low + high) / 2
        sure = float(softmax(logits, np.exp(middle)).max(-1).mean()) > share
        low, high = (middle, high) if sure else (low, middle)
    return float(np.exp((low + high) / 2))


def of_seeds(
    logits: Sequence[Features], labels: NDArray[np.int64], task: str, position: int
) -> list[Figure]:
    """Return the error of the mean of a seed's scores and the next one's; nothing of one seed."""
    if len(logits) < 2:
        return []
    pair = softmax(logits[position]), softmax(logits[(position + 1) % len(logits)])
    mean = (pair[0] + pair[1]) / 2
    value = 100 * reliability.calibration_error(mean.max(-1), mean.argmax(-1) == labels)
    return [Figure("ECE, points", SEEDS, task, value)]


def passing(rows: Sequence[dict[str, dict[str, float]]]) -> list[str]:
    """Return the methods without labels that pass: 1 point worse at most, and better on the mean.

    Args:
        rows: Rows of a summary, those of errors among them.
    """
    errors = {row["rule"]: row for row in rows if row["table"] == "ECE, points"}
    before = errors["as they are"]["cases"]
    return [
        name
        for name in (*WITHOUT, SEEDS)
        if name in errors
        and np.mean(list(errors[name]["cases"].values())) < np.mean(list(before.values()))
        and all(errors[name]["cases"][task] <= before[task] + 1 for task in before)
    ]
