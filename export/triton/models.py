"""Write the models of a Triton model repository: a task as ONNX, and as TensorRT plans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from export.graphs.baked import baked_graph, joined_graph
from export.graphs.builder import Arrays
from export.graphs.plain import write_plain
from export.triton.config import LABELS, Model, config
from runtime.backends.trt.engine_file import EngineFile, content_of
from runtime.backends.trt.store import EngineStore
from runtime.bundles.bundle import Bundle
from runtime.errors import ConfigError
from runtime.storage.writing import write_bytes

CONFIG = "config.pbtxt"
VERSION = "1"
"""Folder of a model's only version."""


def onnx_model(bundle: Bundle, base: Arrays, task: str, stage: Path, max_batch: int) -> Model:
    """Write the ONNX model `<task>` and return its description.

    Args:
        bundle: Bundle of the task.
        base: Deploy tensors of the base.
        task: Id of the task.
        stage: Folder to write to.
        max_batch: Largest number of frames that Triton runs at once.

    Raises:
        BaseModelError: The weights do not fit into one ONNX file.
        FormatError: The bundle is damaged.
        StorageError: A file cannot be written.
    """
    entry, content = bundle.entry(task), bundle.task(task, bundle.layout())
    spec = replace(bundle.preprocess(task), background=content.background)
    file = stage / task / VERSION / "model.onnx"
    write_plain(file, joined_graph(bundle, entry), base, content, spec)
    how = f"A frame becomes pixels by: resize {spec.resize}, {spec.interpolation}, to RGB uint8."
    if spec.background != "drop":
        how += f" Transparent images are laid on {spec.background} first."
    model = Model(
        name=task,
        platform="onnxruntime_onnx",
        side=bundle.manifest.encoder(entry).size,
        classes=entry.classes,
        max_batch=max_batch,
        size=file.stat().st_size,
        notes=(how,),
    )
    _describe(model, stage / task, content.info.classes)
    return model


def plan_model(
    bundle: Bundle,
    task: str,
    stage: Path,
    max_batch: int,
    store: EngineStore,
    plans: Sequence[EngineFile],
) -> Model:
    """Write the TensorRT model `<task>-trt` and return its description.

    Args:
        bundle: Bundle of the task.
        task: Id of the task.
        stage: Folder to write to.
        max_batch: Largest number of frames that Triton runs at once; a plan may allow fewer.
        store: Folder of the plans.
        plans: One plan or more, each for another GPU generation.

    Raises:
        FormatError: The bundle or a plan is damaged.
        StorageError: A file cannot be written.
    """
    entry, name = bundle.entry(task), f"{task}-trt"
    files = {plan.recipe.platform.generation: plan for plan in plans}
    for generation, plan in files.items():
        path = stage / name / VERSION / f"model_{generation}.plan"
        write_bytes(path, store.plan(plan))
    model = Model(
        name=name,
        platform="tensorrt_plan",
        side=bundle.manifest.encoder(entry).size,
        classes=entry.classes,
        max_batch=min(max_batch, *(plan.recipe.profile.batch.max for plan in plans)),
        size=sum(plan.plan.bytes for plan in plans),
        plans={generation: f"model_{generation}.plan" for generation in files},
        notes=tuple(f"Needs {plan.recipe.platform}." for plan in plans),
    )
    _describe(model, stage / name, bundle.task(task, bundle.layout()).info.classes)
    return model


def plans_of(bundle: Bundle, task: str, store: EngineStore) -> tuple[list[EngineFile], list[str]]:
    """Return the plans of a task that Triton can open, and reasons for the others.

    Args:
        bundle: Bundle of the task.
        task: Id of the task.
        store: Folder of the plans that `uda-export trt --baked` built.

    Raises:
        FormatError: The bundle or an engine's description is damaged.
        ConfigError: Two plans are for one GPU generation, which Triton cannot tell apart.
    """
    found = [store.read(path) for path in sorted(store.folder.glob(f"baked-{task}-*.json"))]
    if not found:
        return [], []
    graph = baked_graph(bundle, task)
    content = content_of(graph.sha256, graph.weights())
    plans: dict[str, EngineFile] = {}
    notes = []
    for engine in found:
        platform = engine.recipe.platform
        if engine.stem != graph.stem or engine.recipe.content != content:
            notes.append(f"'{engine.plan_name}', made from another version of task '{task}'")
        elif platform.library != "tensorrt":
            notes.append(f"'{engine.plan_name}' of {platform.library}, which Triton does not run")
        elif platform.generation in plans:
            raise ConfigError(
                f"task '{task}' has plans for {plans[platform.generation].recipe.platform} and for "
                f"{platform}, and Triton tells GPUs apart by their generation only; name a folder "
                "that has one of them with --engines"
            )
        else:
            plans[platform.generation] = engine
    return list(plans.values()), notes


def _describe(model: Model, folder: Path, classes: Sequence[str]) -> None:
    write_bytes(folder / LABELS, "".join(f"{name}\n" for name in classes).encode())
    write_bytes(folder / CONFIG, config(model).encode())
