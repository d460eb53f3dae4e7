"""Write a Triton model repository: `<model>/config.pbtxt`, `labels.txt` and `1/model.*`.

The repository is made in a temporary folder and compared with the bundle there. Then each model is
put in place in one step: a reader finds the old model or the new one, never half of one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.triton.config import MARK, Model
from export.triton.models import CONFIG, VERSION, onnx_model, plan_model, plans_of
from export.verification.plain import open_plain
from runtime.backends.trt.store import EngineStore
from runtime.bundles.bundle import Bundle
from runtime.errors import StorageError, VerifyError
from runtime.sessions.session import Session
from runtime.storage import disk
from runtime.storage.exchange import put_folder
from runtime.storage.files import storage_errors
from runtime.storage.writing import sibling_folder

_FRAMES = 4
_TOLERANCE = {"fp32": 1e-3, "bf16": 1e-3, "fp16": 5e-2}
"""Largest logit difference, as a share of the mean spread of one frame's logits."""


@dataclass(frozen=True)
class WrittenModels:
    """Models that were written, and plans that were not."""

    models: tuple[Model, ...]
    notes: tuple[str, ...]
    """Reasons for the plans that Triton cannot use."""


def write_repository(
    bundle: Bundle, out: Path, tasks: Sequence[str], max_batch: int, store: EngineStore
) -> WrittenModels:
    """Write a model `<task>` for each task and, where there are plans, a model `<task>-trt`.

    Args:
        bundle: Bundle to read.
        out: Folder of the repository. Models of the same names are replaced, or removed if
            their plan is gone, but only those that `uda-export triton` wrote.
        tasks: Ids of the tasks.
        max_batch: Largest number of frames that Triton runs at once.
        store: Folder of the plans that `uda-export trt --baked` built.

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
    out = Path(os.path.realpath(out))  # a link or `.` has other siblings
    _check_ours(out, names)
    models: list[Model] = []
    notes: list[str] = []
    with sibling_folder(out) as stage:
        base = bundle.weights().views()
        for entry in entries:
            models.append(onnx_model(bundle, base, entry.id, stage, max_batch))
            plans, left = plans_of(bundle, entry.id, store)
            notes += left
            if plans:
                models.append(plan_model(bundle, entry.id, stage, max_batch, store, plans))
        verify(bundle, stage, [entry.id for entry in entries])
        made = {model.name for model in models}
        for name in names:
            if name in made:
                with storage_errors(out / name):
                    out.mkdir(parents=True, exist_ok=True)
                    put_folder(stage / name, out / name)
            elif disk.exists(out / name):  # of a former version of the task
                with storage_errors(out / name):
                    (out / name).rename(stage / f".former-{name}")
    return WrittenModels(tuple(models), tuple(notes))


def verify(bundle: Bundle, repository: Path, tasks: Sequence[str]) -> None:
    """Compare ONNX models with the bundle on noise, which needs no images.

    Args:
        bundle: Bundle that the models were made from.
        repository: Folder of the models.
        tasks: Ids of the tasks to compare.

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
            found = open_plain(repository / task / VERSION / "model.onnx")(pixels)
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
            exists = disk.is_link(folder) or disk.exists(folder)
        if not exists:
            continue
        file = folder / CONFIG
        with storage_errors(file):
            ours = (
                not disk.is_link(folder)
                and disk.is_file(file)
                and file.read_bytes().startswith(MARK.encode())
            )
        if not ours:
            raise StorageError(
                f"'{folder}' was not written by uda-export triton; choose another --out, or move "
                "it away"
            )
