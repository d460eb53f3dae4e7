"""Make models of random weights and residuals: `python -m benchmarks._models ViT-B-16 FOLDER`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from adapt.clip.model import encoder_tensors
from adapt.methods.heads import TaskHead, head_tensors
from benchmarks._random import moved, random_residual, random_tower
from export.graphs import encoders
from export.graphs.encoder import blocked_graph, deploy_tensors, encoder_graph
from export.graphs.heads import head_graph, head_shapes
from export.graphs.plain import join, write_plain
from export.merge import task_patch
from runtime import patch
from runtime.bundles import bundle
from runtime.bundles.graphs import EncoderGraph, HeadGraph
from runtime.bundles.task import Task
from runtime.models import BaseModel, Precision, Preprocess, TaskInfo
from runtime.storage.digest import tensors_sha256
from runtime.storage.files import sha256
from runtime.storage.writing import write_bytes

CLASSES = 65  # Office-Home's
MANY = 200
EXACT = 3
"""Tasks per density that are residuals of the tower, as training leaves them; see `moved`."""
VERSION = 5
"""Version of the files; raise it to make all of them anew."""


@dataclass(frozen=True)
class Model:
    """A model on disk."""

    bundle: Path
    """Folder with the weight-free graphs, the base and every task."""
    baked: Path
    """The first task as a plain ONNX file with constant weights, if it was wanted."""
    tasks: tuple[str, ...]
    """Task ids: density of the residual, a dash, a number."""
    plain: tuple[str, ...]
    """Ids of the tasks that are a head over the untouched encoder."""


def make_model(
    name: str,
    folder: Path,
    densities: Sequence[float] = (0.001, 0.005),
    tasks_per_density: int = 2,
    precision: Precision = "fp32",
    *,
    plain: int = 0,
    baked: bool = True,
) -> Model:
    """Write a model below `folder`, or return the one that is there.

    Args:
        name: `ViT-B-16`, `RN50`, a model of `adapt.demo`, or another that the export knows.
        folder: Models of all benchmarks lie here.
        densities: Densities of the tasks' residuals.
        tasks_per_density: Tasks that differ in the entries they change.
        precision: Precision of the deploy tensors.
        plain: Number of tasks that are a head over the untouched encoder.
        baked: Also write the first task as a plain ONNX file, which is as large as the base.
    """
    model_folder = folder / f"{name}-{precision}"
    model = Model(
        model_folder / "model.bundle",
        model_folder / "baked.onnx",
        tuple(f"{d:g}-{number}" for d in densities for number in range(tasks_per_density)),
        tuple(f"plain-{number}" for number in range(plain)),
    )
    note = json.dumps({"version": VERSION, "tasks": model.tasks + model.plain, "baked": baked})
    marker = model_folder / "made.json"
    if marker.is_file() and marker.read_text() == note:
        return model
    marker.unlink(missing_ok=True)
    _make(name, model, precision, baked)
    write_bytes(marker, note.encode())
    return model


def _make(name: str, model: Model, precision: Precision, baked: bool) -> None:
    tower = random_tower(name)
    form, base = encoders.get(tower), encoder_tensors(tower)
    tensors = deploy_tensors(form, base, precision)
    spec = Preprocess(form.size)
    graph = encoder_graph(form, tensors, spec)
    blocked = blocked_graph(form, tensors, spec)
    encoder = EncoderGraph(
        graph.SerializeToString(deterministic=True),
        spec,
        blocked=blocked and blocked.SerializeToString(deterministic=True),
    )
    head = head_graph(TaskHead.kind, _head(form.dim, 0))
    patches = _patches(
        model, form, base, tensors, precision, [n for n, _ in tower.named_parameters()]
    )
    shared = {
        "base_sha256": tensors_sha256(tensors),
        "encoder": sha256(encoder.graph),
        "head": sha256(head),
    }
    tasks = [
        _task(task, spec, changes, _head(form.dim, seed), shared)
        for seed, (task, changes) in enumerate(patches.items())
    ]
    bundle.write(
        model.bundle,
        base=BaseModel(name, "random", tensors_sha256(base)),
        precision=precision,
        encoders=[encoder],
        tensors=tensors,
        heads=[HeadGraph(TaskHead.kind, head, head_shapes(TaskHead.kind, _head(form.dim, 0)))],
        tasks=tasks,
        report={},
    )
    if baked:
        joined = join(graph, onnx.load_from_string(head))
        write_plain(model.baked, joined, tensors, tasks[0], spec)


def _patches(
    model: Model,
    form: encoders.Form,
    base: dict[str, NDArray[np.float32]],
    tensors: Mapping[str, NDArray[Any]],
    precision: Precision,
    parameters: Sequence[str],
) -> dict[str, patch.Patch]:
    """Return the patch of each task, empty for those that are only a head."""
    patches: dict[str, patch.Patch] = {}
    exact: dict[str, list[patch.Patch]] = {}
    for seed, task in enumerate(model.tasks):
        density, _, number = task.rpartition("-")
        drawn = exact.setdefault(density, [])
        if int(number) < EXACT:
            residual = random_residual(base, parameters, float(density), int(number))
            drawn.append(task_patch(form, tensors, patch.merge(base, residual), precision))
            patches[task] = drawn[-1]
        else:
            patches[task] = moved(drawn[seed % EXACT], tensors, seed)
    return patches | {task: {} for task in model.plain}


def _task(
    task: str,
    spec: Preprocess,
    changes: patch.Patch,
    head: dict[str, NDArray[np.float32]],
    shared: Mapping[str, str],
) -> Task:
    classes = tuple(f"class {i}" for i in range(CLASSES))
    return Task(
        info=TaskInfo(task, "random", "a", "b", classes),
        method="random",
        resize=spec.resize,
        interpolation=spec.interpolation,
        tokens={},
        head_tensors=head,
        patch=changes,
        record={"patch": patch.size(changes)},
        **shared,
    )


def many_tasks(name: str, folder: Path, density: float) -> Model:
    """Return a model of 200 tasks with a patch and 200 that are only a head."""
    return make_model(name, folder / "many", (density,), MANY, plain=MANY, baked=False)


def _head(dim: int, seed: int) -> dict[str, NDArray[np.float32]]:
    torch.manual_seed(seed)
    return head_tensors(TaskHead(dim, CLASSES))


if __name__ == "__main__":
    print(make_model(sys.argv[1], Path(sys.argv[2])))
