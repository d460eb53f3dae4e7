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
import open_clip
import torch
from numpy.typing import NDArray
from open_clip.model import _build_vision_tower
from safetensors.torch import save_file
from torch import nn

from adapt.clip.demo_weights import register
from adapt.clip.model import encoder_tensors
from adapt.methods.heads import TaskHead, head_tensors
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
from runtime.patch import SparseTensor
from runtime.storage.digest import tensors_sha256
from runtime.storage.files import replacing, sha256, write_bytes

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
    tower = random_tower(name)
    form, base = encoders.get(tower), encoder_tensors(tower)
    parameters = [parameter for parameter, _ in tower.named_parameters()]
    tensors = deploy_tensors(form, base, precision)
    identity = tensors_sha256(tensors)
    spec = Preprocess(form.size)
    graph = encoder_graph(form, tensors, spec)
    blocked = blocked_graph(form, tensors, spec)
    encoder = EncoderGraph(
        graph.SerializeToString(deterministic=True),
        spec,
        blocked=blocked and blocked.SerializeToString(deterministic=True),
    )
    head = head_graph(TaskHead.kind, _head(form.dim, 0))
    tasks: list[Task] = []
    exact: dict[str, list[patch.Patch]] = {}
    for seed, task in enumerate(model.tasks + model.plain):
        density, _, number = task.rpartition("-")
        drawn = exact.setdefault(density, [])
        if task in model.plain:
            changes: patch.Patch = {}
        elif int(number) < EXACT:
            residual = random_residual(base, parameters, float(density), int(number))
            changes = task_patch(form, tensors, patch.merge(base, residual), precision)
            drawn.append(changes)
        else:
            changes = moved(drawn[seed % EXACT], tensors, seed)
        tasks.append(
            Task(
                info=TaskInfo(
                    task, "random", "a", "b", tuple(f"class {i}" for i in range(CLASSES))
                ),
                method="random",
                resize=spec.resize,
                interpolation=spec.interpolation,
                base_sha256=identity,
                encoder=sha256(encoder.graph),
                tokens={},
                head=sha256(head),
                head_tensors=_head(form.dim, seed),
                patch=changes,
                record={"patch": patch.size(changes)},
            )
        )
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
    write_bytes(marker, note.encode())
    return model


def many_tasks(name: str, folder: Path, density: float) -> Model:
    """Return a model of 200 tasks with a patch and 200 that are only a head."""
    return make_model(name, folder / "many", (density,), MANY, plain=MANY, baked=False)


def _head(dim: int, seed: int) -> dict[str, NDArray[np.float32]]:
    torch.manual_seed(seed)
    return head_tensors(TaskHead(dim, CLASSES))


def moved(
    changes: patch.Patch, tensors: Mapping[str, NDArray[Any]], seed: int
) -> dict[str, SparseTensor]:
    """Return a patch of the same size and structure elsewhere, at a hundredth of the cost.

    The changed entries of each tensor move along by a random number of whole rows, so that what a
    folded BatchNorm changes is still whole filters.
    """
    draw = np.random.default_rng(seed)
    made: dict[str, SparseTensor] = {}
    for name, sparse in changes.items():
        old = tensors[name].reshape(-1)
        rows = tensors[name].shape[0]
        shift = int(draw.integers(rows)) * (old.size // rows)
        where = np.sort((sparse.indices.astype(np.int64) + shift) % old.size)
        made[name] = SparseTensor(where.astype(np.uint32), _nearby(old[where], draw))
    return made


def random_tower(name: str, seed: int = 0) -> nn.Module:
    """Return an image tower of open_clip, QuickGELU as OpenAI's, with every tensor random.

    Matrices and filters lie on the float16 grid, as OpenAI's do; variances are positive.
    """
    register()
    config = open_clip.get_model_config(name)
    tower: nn.Module = _build_vision_tower(config["embed_dim"], config["vision_cfg"], True)
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, tensor in [*tower.named_parameters(), *tower.named_buffers()]:
            if not tensor.is_floating_point():
                continue
            noise = torch.randn(tensor.shape, generator=draw)
            if key.endswith("running_var"):
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=draw))
            elif tensor.dim() > 1:
                scale = (tensor[0].numel() ** -0.5) if "embedding" not in key else 0.03
                tensor.copy_((noise * scale).half().float())
            elif key.endswith("weight"):
                # A residual branch that adds less than it gets keeps the features finite.
                tensor.copy_((0.3 if "bn3" in key else 1.0) + 0.1 * noise)
            else:
                tensor.copy_(0.1 * noise)
    return tower.eval()


def random_clip(name: str, folder: Path) -> Path:
    """Return a file with all of a CLIP, image tower as `random_tower` draws it; written once."""
    path = folder / f"{name}-clip.safetensors"
    if not path.is_file():
        config = open_clip.get_model_config(name)
        config.pop("quick_gelu", None)
        torch.manual_seed(0)
        state = open_clip.model.CLIP(**config, quick_gelu=True).state_dict()
        tower = random_tower(name)
        state |= {f"visual.{key}": tensor for key, tensor in tower.state_dict().items()}
        with replacing(path) as temporary:
            save_file({key: tensor.contiguous() for key, tensor in state.items()}, temporary)
    return path


def random_residual(
    base: dict[str, NDArray[np.float32]], names: Sequence[str], density: float, seed: int
) -> patch.Patch:
    """Return new values for a random share of the entries of some tensors, each changed a little.

    Relative changes of 1e-3 and absolute ones of 1e-5, the size of RST's.
    """
    draw = np.random.default_rng(seed)
    residual = {}
    for name in names:
        old = base[name].reshape(-1)
        where = np.flatnonzero(draw.random(old.size, np.float32) < density)
        if where.size:
            residual[name] = SparseTensor(where.astype(np.uint32), _nearby(old[where], draw))
    return residual


def _nearby(old: NDArray[Any], draw: np.random.Generator) -> NDArray[Any]:
    noise = draw.standard_normal((2, old.size), np.float32)
    new: NDArray[Any] = old * (1 + np.float32(1e-3) * noise[0]) + np.float32(1e-5) * noise[1]
    return new.astype(old.dtype)


if __name__ == "__main__":
    print(make_model(sys.argv[1], Path(sys.argv[2])))
