"""Train the linear probe that the variants of a task are compared with."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from adapt import methods
from adapt.data import DomainPair
from adapt.evaluation.stored import PROBE
from adapt.evaluation.variants import architecture_of
from adapt.settings.config import TrainConfig
from adapt.settings.layers import Settings, resolve
from adapt.settings.limits import SMALLEST_BATCH
from adapt.settings.model_config import SUFFIX
from adapt.training.train import train
from runtime.storage.writing import scratch_folder

SHARED = (
    *("model", "pretrained", "prompt", "resize", "interpolation", "partial", "target_classes"),
    *("background", "holdout", "seed", "eval_batch_size"),
)
"""Settings that the probe takes from the variants it is compared with."""


def probe_settings(
    dataset: str | None, settings: Mapping[str, Any], sources: int, targets: int
) -> Settings[TrainConfig]:
    """Return the settings of a probe beside a variant.

    Args:
        dataset: Name of the data set; None for own images.
        settings: Settings of the variant.
        sources: Number of source images.
        targets: Number of target images.

    Raises:
        ConfigError: A value that the number of images decides is impossible.
    """
    method = methods.get(PROBE)
    resolved = resolve(method.Config, dataset or "folder", PROBE)
    names = {field.name for field in fields(resolved.config)}
    shared = {key: settings[key] for key in SHARED if key in settings and key in names}
    size = max(min(resolved.config.batch_size, sources, targets), SMALLEST_BATCH)
    resolved = replace(resolved, config=replace(resolved.config, **shared, batch_size=size))
    return resolved.with_data(method.from_data, sources, targets)


@contextlib.contextmanager
def with_probe(
    pair: DomainPair,
    files: Mapping[str, Path],
    settings: Mapping[str, Any],
    device: str,
    dataset: str | None,
) -> Iterator[Mapping[str, Path]]:
    """Yield artifacts by variant, including a linear probe.

    A missing probe is trained in a temporary folder, which takes seconds. It uses the architecture
    that the variants remember, since their model configuration may have moved.

    Args:
        pair: Images of the task.
        files: Artifacts by variant.
        settings: Settings that the variants share.
        device: Device to compute on.
        dataset: Name of the data set; None for own images.

    Raises:
        UdaError: The base model or the images cannot be used.
    """
    if PROBE in files:
        yield files
        return
    own = architecture_of(files, settings["model"])
    with scratch_folder("uda-baselines") as folder:
        if own:
            moved = folder / f"{own.name}{SUFFIX}"
            moved.write_text(json.dumps(own.as_dict()))
            settings = {**settings, "model": str(moved)}
        config = probe_settings(dataset, settings, len(pair.source), len(pair.target)).config
        path = train(PROBE, pair, config, out=folder, device=device).path
        # Tables keep this order, and people read baselines first.
        yield {PROBE: path, **files}
