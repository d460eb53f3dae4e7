"""Open the bundles of a comparison, and find the tasks that all of them have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from runtime.benchmark.compare.candidates import NotCompared
from runtime.bundles.bundle import Bundle
from runtime.errors import ConfigError, TaskError
from runtime.storage import disk


def opened(paths: Iterable[Path]) -> list[Bundle]:
    """Return the bundles, opened.

    Raises:
        ConfigError: A bundle is named twice.
        FormatError: There is no bundle, or its manifest is damaged.
        StorageError: Access to a folder is denied.
    """
    found: dict[Path, Bundle] = {}
    for path in paths:
        if (real := disk.real(path)) in found:
            raise ConfigError(f"the bundle '{path}' is named twice; name it once")
        found[real] = Bundle.open(path)
    return list(found.values())


def common_tasks(
    bundles: Sequence[Bundle], wanted: Sequence[str], count: int | None
) -> tuple[tuple[str, ...], list[NotCompared]]:
    """Return the tasks to compare, and those that are left out since a bundle lacks them.

    Args:
        bundles: Bundles, opened.
        wanted: Ids of tasks; none for all that the bundles have in common.
        count: Number of tasks to take of these; None for all.

    Raises:
        TaskError: A bundle has no such task, or the bundles have none in common, or not as many.
    """
    for bundle in bundles:
        for task in wanted:
            if task not in bundle.tasks:
                raise TaskError(
                    f"'{bundle.path}' has no task '{task}'; available: {', '.join(bundle.tasks)}"
                )
    every = tuple(dict.fromkeys(wanted)) or tuple(
        dict.fromkeys(task for bundle in bundles for task in bundle.tasks)
    )
    lacking = {task: [each for each in bundles if task not in each.tasks] for task in every}
    common = tuple(task for task in every if not lacking[task])
    if not common:
        raise TaskError(
            f"'{bundles[0].path}' and '{bundles[1].path}' have no task in common; name bundles of "
            "the same tasks"
        )
    if count is not None and count > len(common):
        raise TaskError(f"--tasks {count} needs as many tasks, found {len(common)}")
    left = [
        {"what": f"task {task}", "reason": f"'{without[0].path}' has no such task"}
        for task, without in lacking.items()
        if without
    ]
    return common[:count], left
