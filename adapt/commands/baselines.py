"""Compare a run with its baselines, zero-shot CLIP and a linear probe, on the same images."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING

from runtime.console import echo, table
from runtime.errors import UdaError

if TYPE_CHECKING:
    from adapt.data import DomainPair
    from adapt.data.harvest import Harvest
    from adapt.evaluation.compare import Line
    from adapt.training.loop import Run


def with_baselines(
    pair: DomainPair,
    run: Run,
    device: str,
    dataset: str | None,
    *,
    probe: bool,
    harvest: Harvest | None = None,
) -> list[Line]:
    """Print and return the comparison of a run with its baselines; none where they cannot be used.

    On a harvest the run's artifact remembers it.

    Args:
        pair: Images of the task.
        run: Finished run.
        device: Device to compute on.
        dataset: Name of the data set; None for own images.
        probe: Whether to compare with a linear probe too, and to print the table.
        harvest: Harvest that the task was adapted to, if it is one.
    """
    from adapt.commands.harvest import compare_harvest
    from adapt.evaluation import compare
    from adapt.evaluation.stored import zero_shot_settings
    from adapt.evaluation.verdict import verdict
    from adapt.training.probe import with_probe

    variant, settings = run.path.parent.name, run.artifact.config
    files = {variant: run.path}
    baselines = with_probe(pair, files, settings, device, dataset)
    try:
        with baselines if probe else contextlib.nullcontext(files) as every:
            zero_shot = zero_shot_settings(dataset, run.artifact)
            lines = compare.compare(pair, every, zero_shot, device)
            sorted_lines: list[Line] = []
            if harvest is not None and len(harvest.unsure):
                unsure = dataclasses.replace(pair, test=harvest.unsure, given=True)
                sorted_lines = compare.compare(unsure, every, zero_shot, device)
    except UdaError as error:  # the run itself is saved
        echo(f"\nbaselines  none: {error}")
        return []
    if probe:
        rows = table(compare.HEADER, compare.rows(lines))
        echo(f"\n{rows}" + (f"\n{verdict(lines, variant, settings)}" if harvest is None else ""))
    if harvest is not None:
        compare_harvest(harvest, run, lines, sorted_lines)
    return lines
