"""Compare a run with its baselines, zero-shot CLIP and a linear probe, on the same images."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapt.settings.model_config import SUFFIX
from runtime.errors import UdaError
from runtime.storage.writing import scratch_folder

if TYPE_CHECKING:
    from adapt.data import DomainPair
    from adapt.evaluation.compare import Line
    from adapt.training.loop import Run

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
    from adapt import methods
    from adapt.evaluation.variants import architecture_of
    from adapt.settings.layers import resolve
    from adapt.training.train import train

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


def table_of(pair: DomainPair, run: Run, device: str, dataset: str | None) -> str:
    """Return a table of a run and its baselines, and whether the run is the best of them.

    Args:
        pair: Images of the task.
        run: Finished run.
        device: Device to compute on.
        dataset: Name of the data set; None for own images.
    """
    from adapt.evaluation import compare
    from adapt.evaluation.stored import zero_shot_settings
    from runtime.console import table

    variant, settings = run.path.parent.name, run.artifact.config
    try:
        with with_probe(pair, {variant: run.path}, settings, device, dataset) as files:
            zero_shot = zero_shot_settings(dataset, run.artifact)
            lines = compare.compare(pair, files, zero_shot, device)
    except UdaError as error:  # the run itself is saved
        return f"baselines  none: {error}"
    return f"{table(compare.HEADER, compare.rows(lines))}\n{verdict(lines, variant, settings)}"


def verdict(lines: Sequence[Line], variant: str, settings: Mapping[str, Any]) -> str:
    """Return whether a run beats its baselines, and a hint if it does not, for people.

    They are compared by accuracy if the test images have labels, else by infomax.

    Args:
        lines: Comparison of the run and its baselines.
        variant: Name of the run.
        settings: Settings of the run.
    """
    own = next(line for line in lines if line.variant == variant)
    known = own.accuracy is not None
    by = "accuracy" if known else "infomax, a score without labels"
    values = {line.variant: line.accuracy if known else line.infomax for line in lines}
    best = max(values, key=lambda name: values[name] or 0.0)
    shown = {name: f"{value:.2f}{' %' if known else ''}" for name, value in values.items() if value}
    if best == variant:
        return f"better than its baselines by {by}"
    # Methods without FixMatch lack the setting.
    fixmatch = "--set fixmatch=0.5, " if settings.get("fixmatch") == 0 else ""
    return (
        f"NOT better than {best} ({shown.get(variant, '0')} against {shown[best]}) by {by}; try "
        f"{fixmatch}--set lr with a third of the rate, another --method, or keep {best}"
    )
