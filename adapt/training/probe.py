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
from adapt.evaluation.variants import architecture_of
from adapt.settings.layers import resolve
from adapt.settings.model_config import SUFFIX
from adapt.training.train import train
from runtime.storage.writing import scratch_folder

PROBE = "linear_probe"
SHARED = (
    *("model", "pretrained", "prompt", "resize", "interpolation", "partial", "target_classes"),
    *("background", "holdout", "seed", "eval_batch_size"),
)
"""Settings that the probe takes from the variants it is compared with."""


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
    method = methods.get(PROBE)
    resolved = resolve(method.Config, dataset or "folder", PROBE)
    names = {field.name for field in fields(resolved.config)}
    shared = {key: settings[key] for key in SHARED if key in settings and key in names}
    size = max(min(resolved.config.batch_size, len(pair.source), len(pair.target)), 2)
    own = architecture_of(files, settings["model"])
    with scratch_folder("uda-baselines") as folder:
        if own:
            shared["model"] = str(folder / f"{own.name}{SUFFIX}")
            Path(shared["model"]).write_text(json.dumps(own.as_dict()))
        resolved = replace(resolved, config=replace(resolved.config, **shared, batch_size=size))
        config = resolved.with_data(method.from_data, len(pair.source), len(pair.target)).config
        path = train(PROBE, pair, config, out=folder, device=device).path
        # Tables keep this order, and people read baselines first.
        yield {PROBE: path, **files}
