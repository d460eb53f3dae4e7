"""Full-size models with random weights and random residuals. Timings need no real weights.

python -m benchmarks._models ViT-B-16 FOLDER
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import open_clip
import torch
from numpy.typing import NDArray
from open_clip.model import _build_vision_tower
from safetensors.torch import save_file
from torch import nn

from adapt.clip import encoder_tensors
from adapt.heads import TaskHead, head_tensors
from export.encoder import blocked_graph, deploy_tensors, encoder_graph, form_of
from export.heads import head_graph
from export.merge import task_patch
from export.plain import join, write_plain
from runtime import bundle, patch
from runtime.bundle import EncoderGraph, HeadGraph
from runtime.digest import tensors_sha256
from runtime.files import replacing, sha256, write_bytes
from runtime.patch import SparseTensor
from runtime.spec import BaseModel, Precision, Preprocess, TaskInfo
from runtime.task import Task

CLASSES = 65  # Office-Home's
_VERSION = 3


@dataclass(frozen=True)
class Model:
    """A model on disk."""

    bundle: Path
    """Folder with the weight-free graphs, the base and every task."""
    baked: Path
    """The first task as a plain ONNX file with constant weights."""
    tasks: tuple[str, ...]
    """Task ids: density of the residual, a dash, a number."""


def make_model(
    name: str,
    folder: Path,
    densities: Sequence[float] = (0.001, 0.005),
    tasks_per_density: int = 2,
    precision: Precision = "fp32",
) -> Model:
    """Write a model below `folder`, or return the one that is there.

    Args:
        name: `ViT-B-16` or `RN50`, or another architecture of open_clip that the export knows.
        folder: Models of all benchmarks lie here.
        densities: Changed over all encoder parameters, of the tasks' residuals.
        tasks_per_density: Tasks that differ in the entries they change.
        precision: Of the deploy tensors.
    """
    place = folder / f"{name}-{precision}"
    ids = tuple(
        f"{density:g}-{number}" for density in densities for number in range(tasks_per_density)
    )
    model = Model(place / "model.bundle", place / "baked.onnx", ids)
    note = json.dumps({"version": _VERSION, "tasks": ids})
    marker = place / "made.json"
    if marker.is_file() and marker.read_text() == note:
        return model
    marker.unlink(missing_ok=True)
    tower = random_tower(name)
    form, base = form_of(tower), encoder_tensors(tower)
    parameters = [parameter for parameter, _ in tower.named_parameters()]
    tensors = deploy_tensors(form, base, precision)
    spec = Preprocess(form.size)
    graph = encoder_graph(form, tensors, spec)
    blocked = blocked_graph(form, tensors, spec)
    encoder = EncoderGraph(
        graph.SerializeToString(deterministic=True),
        spec,
        blocked=blocked and blocked.SerializeToString(deterministic=True),
    )
    torch.manual_seed(1)
    heads = head_tensors(TaskHead(form.dim, CLASSES))
    head = head_graph(TaskHead.kind, heads)
    tasks = []
    for seed, task in enumerate(ids):
        residual = random_residual(base, parameters, float(task.rpartition("-")[0]), seed)
        changes = task_patch(form, tensors, patch.merge(base, residual), precision)
        info = TaskInfo(task, "random", "a", "b", tuple(f"class {i}" for i in range(CLASSES)))
        facts = {"residual": patch.size(residual), "patch": patch.size(changes)}
        tasks.append(
            Task(
                info=info,
                method="random",
                resize=spec.resize,
                interpolation=spec.interpolation,
                base_sha256=tensors_sha256(tensors),
                encoder=sha256(encoder.graph),
                tokens={},
                head=sha256(head),
                head_tensors=heads,
                patch=changes,
                facts=facts,
            )
        )
    bundle.write(
        model.bundle,
        base=BaseModel(name, "random", tensors_sha256(base)),
        precision=precision,
        encoders=[encoder],
        tensors=tensors,
        heads=[HeadGraph(TaskHead.kind, head)],
        tasks=tasks,
        report={},
    )
    write_plain(model.baked, join(graph, onnx.load_from_string(head)), tensors, tasks[0], spec)
    write_bytes(marker, note.encode())
    return model


def random_tower(name: str, seed: int = 0) -> nn.Module:
    """Return an image tower of open_clip, QuickGELU as OpenAI's, with every tensor random.

    Matrices and filters lie on the float16 grid, as OpenAI's do; variances are positive.
    """
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
            noise = draw.standard_normal((2, where.size), np.float32)
            new = old[where] * (1 + np.float32(1e-3) * noise[0]) + np.float32(1e-5) * noise[1]
            residual[name] = SparseTensor(where.astype(np.uint32), new)
    return residual


if __name__ == "__main__":
    print(make_model(sys.argv[1], Path(sys.argv[2])))
