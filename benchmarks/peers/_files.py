"""Write the first tasks of a model in every form that a peer wants."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from adapt.clip.model import encoder_tensors
from benchmarks._models import VERSION, many_tasks
from benchmarks._random import random_residual, random_tower
from benchmarks.peers import DISTINCT, Files
from export.graphs.plain import join, write_plain
from runtime import patch
from runtime.bundles.bundle import Bundle
from runtime.storage.writing import replacing, write_bytes


def make_files(name: str, folder: Path, density: float) -> Files:
    """Return the model of `benchmarks._models` with its first tasks in every form; made once.

    Args:
        name: `ViT-B-16` or `RN50`.
        folder: Models of all benchmarks lie here.
        density: Density of the tasks' residuals.
    """
    model = many_tasks(name, folder, density)
    peer_folder = folder / "peers" / f"{name}-{density:g}"
    files, marker = Files(name, model.bundle, peer_folder), peer_folder / "made.txt"
    note = f"{VERSION} {DISTINCT}"
    if marker.is_file() and marker.read_text() == note:
        return files
    peer_folder.mkdir(parents=True, exist_ok=True)
    marker.unlink(missing_ok=True)
    _onnx_files(files)
    _torch_files(files, density)
    write_bytes(marker, note.encode())
    return files


def _onnx_files(files: Files) -> None:
    bundle = Bundle.open(files.bundle)
    weights = bundle.weights()
    encoder, head = bundle.manifest.encoders[0], bundle.manifest.heads[0]
    graph = join(
        onnx.load_from_string(bundle.graph(encoder.graph)),
        onnx.load_from_string(bundle.graph(head.graph)),
    )
    write_bytes(files.graph(), graph.SerializeToString())
    for number in range(DISTINCT):
        task = bundle.task(bundle.tasks[number], weights.layout)
        spec = bundle.preprocess(task.info.id)
        write_plain(files.baked(number), graph, weights.views(), task, spec)
        merged = patch.merge(weights.views(), task.patch)
        changed = {name: merged[name] for name in task.patch}
        changed |= {f"head.{name}": array for name, array in task.head_tensors.items()}
        adapter = onnxruntime.AdapterFormat()
        adapter.set_adapter_version(1)
        adapter.set_model_version(1)
        adapter.set_parameters(
            {n: onnxruntime.OrtValue.ortvalue_from_numpy(a) for n, a in changed.items()}
        )
        with replacing(files.adapter(number)) as temporary:
            adapter.export_adapter(str(temporary))


def _torch_files(files: Files, density: float) -> None:
    tower = random_tower(files.name)
    base = encoder_tensors(tower)
    parameters = [name for name, _ in tower.named_parameters()]
    starts = np.cumsum([0, *(base[name].size for name in parameters)])
    _save(files.base(), {f"tower.{name}": array for name, array in base.items()})
    bundle = Bundle.open(files.bundle)
    layout = bundle.weights().layout
    for number in range(DISTINCT):
        residual = random_residual(base, parameters, density, number)
        heads = bundle.task(bundle.tasks[number], layout).head_tensors
        own = {f"head.{name}": array for name, array in heads.items()}
        merged = patch.merge(base, residual)
        _save(files.merged(number), {**{f"tower.{n}": a for n, a in merged.items()}, **own})
        where = [
            residual[name].indices + np.int32(start)
            for name, start in zip(parameters, starts, strict=False)
            if name in residual
        ]
        values = [residual[name].values for name in parameters if name in residual]
        joined = {
            "indices": np.concatenate(where).astype(np.int32),
            "values": np.concatenate(values),
        }
        _save(files.sparse(number), {**joined, **own})


def _save(path: Path, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    with replacing(path) as temporary:
        save_file({n: torch.from_numpy(np.ascontiguousarray(a)) for n, a in arrays.items()},
                  temporary)  # fmt: skip
