"""A bundle's tasks as a Triton model repository: `<model>/config.pbtxt, labels.txt, 1/model.*`.

The repository is made beside its place and compared with the bundle there. Then each model is put
into place by a rename: whoever looks meets the old model or the new one, never half of one.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from export.baked import baked_part
from export.graph import Arrays
from export.plain import join, open_plain, write_plain
from export.triton_config import LABELS, MARK, Model, config
from runtime.bundles.bundle import Bundle
from runtime.engines.file import MAX_SIDECAR, EngineFile, content_of, decode
from runtime.engines.store import EngineStore
from runtime.errors import ConfigError, StorageError, VerifyError
from runtime.sessions.session import Session
from runtime.storage.digest import tensors_sha256
from runtime.storage.files import read_bytes, storage_errors, write_bytes

CONFIG = "config.pbtxt"
_VERSION = "1"
_FRAMES = 4
_TOLERANCE = {"fp32": 1e-3, "bf16": 1e-3, "fp16": 5e-2}
"""Largest logit difference, as a share of the mean spread of one frame's logits."""


@dataclass(frozen=True)
class Written:
    """What became of a bundle."""

    models: tuple[Model, ...]
    notes: tuple[str, ...]
    """Plans that no Triton could use, and why, for people."""


def write_repository(
    bundle: Bundle, out: Path, tasks: Sequence[str], max_batch: int, store: EngineStore
) -> Written:
    """Write a model `<task>` for each task and, where there are plans, a model `<task>-trt`.

    Args:
        bundle: Whose tasks.
        out: The repository; models of these names are replaced, or removed where there is no plan
            any more, if they are ours. Others stay.
        tasks: Their ids.
        max_batch: Frames that Triton may run at once.
        store: Where plans may lie, of `uda-export trt --baked`.

    Raises:
        TaskError: The bundle has no such task.
        BaseModelError: The weights do not fit into one ONNX file.
        FormatError: The bundle or an engine is damaged.
        ConfigError: Two plans are for one GPU generation, which Triton cannot tell apart.
        VerifyError: A model disagrees with the bundle; nothing was written.
        StorageError: The disk is full or not writable, or a model of that name is not ours.
    """
    entries = [bundle.entry(task) for task in dict.fromkeys(tasks)]
    names = [name for entry in entries for name in (entry.id, f"{entry.id}-trt")]
    _check_ours(out, names)
    models: list[Model] = []
    notes: list[str] = []
    with _workplace(out) as stage:
        base = bundle.weights().views()
        for entry in entries:
            models.append(_onnx_model(bundle, base, entry.id, stage, max_batch))
            plans, left = _plans(bundle, entry.id, store)
            notes += left
            if plans:
                models.append(_plan_model(bundle, entry.id, stage, max_batch, store, plans))
        verify(bundle, stage, [entry.id for entry in entries])
        made = {model.name for model in models}
        for name in names:
            if name in made:
                _put(stage / name, out / name, stage / f".former-{name}")
            elif (out / name).exists():  # of a former version of the task
                with storage_errors(out / name):
                    (out / name).rename(stage / f".former-{name}")
    return Written(tuple(models), tuple(notes))


def _onnx_model(bundle: Bundle, base: Arrays, task: str, stage: Path, max_batch: int) -> Model:
    entry, layout = bundle.entry(task), bundle.layout()
    encoder, head = bundle.manifest.encoder(entry), bundle.manifest.head(entry)
    graph = join(
        onnx.load_from_string(bundle.graph(encoder.graph)),
        onnx.load_from_string(bundle.graph(head.graph)),
    )
    content, file = bundle.task(task, layout), stage / task / _VERSION / "model.onnx"
    spec = bundle.preprocess(task)
    write_plain(file, graph, base, content, spec)
    how = f"A frame becomes pixels by: resize {spec.resize}, {spec.interpolation}, to RGB uint8."
    model = Model(
        name=task,
        platform="onnxruntime_onnx",
        side=encoder.size,
        classes=entry.classes,
        max_batch=max_batch,
        size=file.stat().st_size,
        notes=(how,),
    )
    _describe(model, stage / task, content.info.classes)
    return model


def _plan_model(
    bundle: Bundle,
    task: str,
    stage: Path,
    max_batch: int,
    store: EngineStore,
    plans: Sequence[EngineFile],
) -> Model:
    entry, name = bundle.entry(task), f"{task}-trt"
    files = {plan.recipe.platform.generation: plan for plan in plans}
    for generation, plan in files.items():
        path = stage / name / _VERSION / f"model_{generation}.plan"
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


def _describe(model: Model, folder: Path, classes: Sequence[str]) -> None:
    write_bytes(folder / LABELS, "".join(f"{name}\n" for name in classes).encode())
    write_bytes(folder / CONFIG, config(model).encode())


def _plans(bundle: Bundle, task: str, store: EngineStore) -> tuple[list[EngineFile], list[str]]:
    """Return the plans of a task that Triton can open, and notes about those it cannot."""
    found = [
        decode(read_bytes(path, MAX_SIDECAR), f"'{path}'")
        for path in sorted(store.folder.glob(f"baked-{task}-*.json"))
    ]
    if not found:
        return [], []
    part = baked_part(bundle, task)
    weights = None if part.baked is None else tensors_sha256(part.baked)
    content = content_of(part.sha256, weights)
    plans: dict[str, EngineFile] = {}
    notes = []
    for engine in found:
        platform = engine.recipe.platform
        if engine.stem != part.stem or engine.recipe.content != content:
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


def verify(bundle: Bundle, repository: Path, tasks: Sequence[str]) -> None:
    """Compare ONNX models with the bundle on noise, which needs nobody's pictures.

    Args:
        bundle: What they were made from.
        repository: The folder with the models.
        tasks: Those to compare.

    Raises:
        VerifyError: A model disagrees.
    """
    limit = _TOLERANCE[bundle.manifest.precision]
    with Session.open(bundle.path) as session:
        for task in tasks:
            side = bundle.preprocess(task).size
            shape = (_FRAMES, side, side, 3)
            pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
            session.switch(task)
            want = session.infer(pixels)
            found = open_plain(repository / task / _VERSION / "model.onnx")(pixels)
            spread = float((want.max(-1) - want.min(-1)).mean())
            apart = float(np.abs(found - want).max()) if found.shape == want.shape else np.inf
            if not apart <= limit * spread:
                raise VerifyError(
                    f"the model of task '{task}' differs from the bundle by {apart:.3g} in a "
                    f"logit, allowed {limit * spread:.3g}; export the bundle again"
                )


def _check_ours(out: Path, names: Sequence[str]) -> None:
    for folder in (out / name for name in names):
        with storage_errors(folder):
            exists = folder.is_symlink() or folder.exists()
        if not exists:
            continue
        file = folder / CONFIG
        with storage_errors(file):
            ours = (
                not folder.is_symlink()
                and file.is_file()
                and file.read_bytes().startswith(MARK.encode())
            )
        if not ours:
            raise StorageError(
                f"'{folder}' is a model that uda-export did not write; choose another --out, or "
                "move it away"
            )


def _put(made: Path, place: Path, aside: Path) -> None:
    """Rename a model into place; the former one comes back if that fails."""
    with storage_errors(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        former = place.exists()
        if former:
            place.rename(aside)
        try:
            made.rename(place)
        except OSError:
            if former:
                with suppress(OSError):
                    aside.rename(place)
            raise


@contextmanager
def _workplace(out: Path) -> Iterator[Path]:
    """Yield an empty folder beside `out`, where no Triton looks, and remove it in the end."""
    with storage_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent))
        stage.chmod(0o755)
    try:
        yield stage
    finally:
        shutil.rmtree(stage, ignore_errors=True)
