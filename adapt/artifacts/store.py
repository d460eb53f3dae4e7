"""Find artifacts: `ROOT/<dataset>/<task>/<variant>/artifact.safetensors`.

A name from a command line is compared with the folders there are, never made part of a path.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from adapt.registry import DATASETS, METHODS
from runtime.errors import FormatError, TaskError
from runtime.storage import disk
from runtime.suggest import did_you_mean

FILE = "artifact.safetensors"
LOCK = "train.lock"
"""Name of the lock file beside an artifact, held by whoever writes it."""
ROOT = "artifacts"
"""Default root folder."""
MOST_OF_A_PAGE = 200
"""Most artifacts of a report."""


@dataclass(frozen=True)
class Entry:
    """An artifact file, by its path alone."""

    dataset: str
    task: str
    variant: str
    path: Path


def variant(method: str, config: Mapping[str, Any]) -> str:
    """Return the name of a method with what was added to it: `cmkd-rst`, `cmkd-rst-d0.001-fp16`.

    A density budget and a grid are part of it; a threshold is not, nor is anything else.

    Args:
        method: Name of the method.
        config: Resolved settings.
    """
    name, grid = family(method, config), config.get("grid", "fp32")
    budget = config.get("rst_density", 0) if config["rst"] else 0
    budget_name = f"d{Decimal(repr(budget)):f}" if budget else ""  # never d1e-05
    return "-".join(filter(None, [name, budget_name, "" if grid == "fp32" else grid]))


def family(method: str, config: Mapping[str, Any]) -> str:
    """Return the name of a variant as papers know it, without budget and grid.

    Args:
        method: Name of the method.
        config: Resolved settings.
    """
    added = {
        "fixmatch": config.get("fixmatch", 0) > 0,
        "partial": config["partial"],
        "rst": config["rst"],
    }
    return "-".join([method, *(name for name, there in added.items() if there)])


def is_baseline(variant: str) -> bool:
    """Return whether a variant is of a method that others are compared with."""
    method = METHODS.get(variant.partition("-")[0])
    return method is not None and method.baseline


def artifact_path(root: Path, dataset: str, task: str, variant: str) -> Path:
    """Return where an artifact goes."""
    return root / dataset / task / variant / FILE


def artifact_file(path: str | Path) -> Path:
    """Return an artifact's file, given that or the folder of its variant.

    Raises:
        FormatError: The folder is one of several variants.
        StorageError: The folder cannot be listed.
    """
    path = Path(path)
    if not disk.is_folder(path):
        return path
    below = [file.parent for file in disk.matching(path, f"*/{FILE}")]
    if below and not disk.exists(path / FILE):
        raise FormatError(
            f"'{path}' holds no artifact itself; choose one below it: "
            f"{', '.join(str(folder) for folder in below)}"
        )
    return path / FILE


def artifact_files(paths: Iterable[Path]) -> list[Path]:
    """Return the artifacts of some paths, each once: files, and folders with all that is below.

    Args:
        paths: Artifacts, folders of variants, of tasks, or roots.

    Raises:
        TaskError: A path does not exist, or has no artifact, or there are too many of them.
        StorageError: A folder cannot be listed.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        if not disk.exists(path):
            raise TaskError(f"'{path}' does not exist; pass what `uda-adapt train` wrote")
        files = disk.matching(path, f"**/{FILE}") if disk.is_folder(path) else [path]
        if not files:
            raise TaskError(
                f"'{path}' and its subfolders have no {FILE}; pass the folder that "
                "`uda-adapt train` wrote"
            )
        for file in files:
            found.setdefault(disk.real(file), file)
    if len(found) > MOST_OF_A_PAGE:
        raise TaskError(
            f"{len(found)} artifacts are more than the {MOST_OF_A_PAGE} that one page holds; pass "
            "fewer folders"
        )
    return list(found.values())


def entries(root: Path, task: str | None = None, dataset: str | None = None) -> list[Entry]:
    """Return the artifacts in a folder, of one task or data set if given, sorted by path.

    Raises:
        StorageError: The folder cannot be listed.
    """
    files = disk.matching(root, f"*/*/*/{FILE}")
    found = [Entry(file.parts[-4], file.parts[-3], file.parts[-2], file) for file in files]
    return [
        entry for entry in found if task in (None, entry.task) and dataset in (None, entry.dataset)
    ]


def variants(root: Path, dataset: str, task: str) -> dict[str, Path]:
    """Return the artifact files of a task by variant, baselines first."""
    found = {entry.variant: entry.path for entry in entries(root, task, dataset)}
    return {name: found[name] for name in sorted(found, key=lambda n: (not is_baseline(n), n))}


def dataset_of(root: Path, task: str) -> str:
    """Return the one data set that has artifacts of a task.

    Raises:
        TaskError: There is none, or there are several.
    """
    same = entries(root, task)
    names = sorted({entry.dataset for entry in same})
    if len(names) == 1:
        return names[0]
    if names:
        raise TaskError(
            f"task '{task}' exists for the data sets {', '.join(names)}; choose one with --dataset"
        )
    raise _missing(root, task, None, "cmkd")


def find(root: Path, task: str, dataset: str | None = None, method: str | None = None) -> Path:
    """Return the artifact file of a task.

    Without a method, the baselines are left out if there is anything else.

    Args:
        root: Folder that training wrote, `artifacts` by default.
        task: Id of the task.
        dataset: Data set of the task, where several have one of that name.
        method: Variant of the artifact, see `variant`.

    Raises:
        TaskError: No artifact matches, or several do.
    """
    if not entries(root, task, dataset):
        raise _missing(root, task, dataset, (method or "cmkd").partition("-")[0])
    known = variants(root, dataset or dataset_of(root, task), task)
    chosen = known
    if method is not None:
        chosen = {name: path for name, path in known.items() if name == method}
    elif len(known) > 1:
        adapted = {name: path for name, path in known.items() if not is_baseline(name)}
        chosen = adapted or known
    if len(chosen) == 1:
        return next(iter(chosen.values()))
    example = next(iter(chosen or known))
    problem = f"was not trained with '{method}'" if method is not None else "has several artifacts"
    raise TaskError(
        f"task '{task}' {problem}{did_you_mean(method or '', known)}; available: "
        f"{', '.join(known)}; "
        f"choose one with --method; uda-export takes --task {task}={example} as well"
    )


def _missing(root: Path, task: str, dataset: str | None, method: str) -> TaskError:
    every = entries(root)
    known = ", ".join(sorted({f"{e.dataset}/{e.task}" for e in every})) or "none"
    wanted = f"'{task}'" if dataset is None else f"'{task}' of data set '{dataset}'"
    commands = []
    if dataset is None or dataset in DATASETS:
        where = f"--dataset {dataset or 'DATASET'} --task {task}"
        commands.append(f'"uda-adapt train {where} --method {method}"')
    if dataset not in DATASETS:
        where = "--data ROOT --source DOMAIN --target DOMAIN"
        commands.append(f'"uda-adapt train {where} --method {method}"')
    hint = did_you_mean(task, {e.task for e in every if dataset in (None, e.dataset)})
    return TaskError(
        f"'{root}' has no artifact of task {wanted}{hint}; available: {known}; make it with "
        f"{', or for images of your own '.join(commands)}"
    )
