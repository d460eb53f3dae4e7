"""Print how a run compares on held-out frames of a harvest, and keep it in the artifact."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from runtime.console import echo, table
from runtime.text import printable

if TYPE_CHECKING:
    from adapt.data.harvest import Harvest
    from adapt.evaluation.compare import Line
    from adapt.training.loop import Run


def compare_harvest(
    harvest: Harvest, run: Run, lines: Sequence[Line], sorted_lines: Sequence[Line]
) -> None:
    """Print how a run compares with the old task and its baselines, and keep it in the artifact.

    Args:
        harvest: Harvest that the task was adapted to.
        run: Finished run.
        lines: Variants, evaluated on the held-out images.
        sorted_lines: Variants, evaluated on the unsure images that were sorted.
    """
    from adapt.artifacts.artifact import Artifact
    from adapt.data.harvest import MEMBER
    from adapt.evaluation.harvest import HEADER, compare

    found = compare(harvest, lines, sorted_lines, run.path.parent.name)
    artifact = Artifact.load(run.path)
    optional = {**artifact.optional, MEMBER: found.document()}
    dataclasses.replace(artifact, optional=optional).save(run.path)
    old = ", ".join(sorted({printable(entry.task) for entry in harvest.entries.values()}))
    echo(f"\n{found.held_out} held-out frames of the harvest; the old task is {old}\n")
    echo(table(HEADER, found.rows()))
    echo(f"\nharvest    {found.verdict}: {found.reason}")
    if not found.sorted:
        echo(
            "           to find out, move frames of held-out/ and unsure/ into sorted/CLASS/ or "
            "none-of-these/, and repeat the command with --resume, which does not train again"
        )
