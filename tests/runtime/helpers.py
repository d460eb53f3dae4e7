"""Changes to a bundle whose digests are computed anew."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import runtime
from runtime.bundles import manifest
from runtime.bundles.bundle import Bundle
from runtime.bundles.task import Task, encode_task
from runtime.storage.files import sha256


def tree(path: Path) -> dict[str, bytes]:
    """Return the content of every file below a folder."""
    return {
        str(f.relative_to(path)): f.read_bytes() for f in sorted(path.rglob("*")) if f.is_file()
    }


def rewrite(
    path: Path, change: Callable[[dict[str, Any]], object], schema: int = manifest.SCHEMA
) -> None:
    """Change the manifest's body and its digest."""
    file = path / manifest.NAME
    document = json.loads(file.read_text())
    change(document["body"])
    document["schema"] = schema
    document["sha256"] = sha256(manifest._canonical(document["body"]))
    file.write_text(json.dumps(document))


def smuggle(path: Path, task: Task) -> None:
    """Put another file of a task into the bundle and the manifest."""
    content = encode_task(task)
    name = f"tasks/{task.info.id}-{sha256(content)[:16]}.safetensors"
    (path / name).write_bytes(content)

    def point(body: dict[str, Any]) -> None:
        entry = next(e for e in body["tasks"] if e["id"] == task.info.id)
        entry["encoder"] = task.encoder
        entry["file"] = {"path": name, "bytes": len(content), "sha256": sha256(content)}

    rewrite(path, point)


def newer(task: Task, seed: int = 3) -> Task:
    """Return another version of a task: other classes' weights, same everything else."""
    rng = np.random.default_rng(seed)
    head = {n: rng.standard_normal(a.shape).astype("f4") for n, a in task.head_tensors.items()}
    return replace(task, head_tensors=head)


def under(task: Task, name: str) -> Task:
    """Return a task with another id."""
    return replace(task, info=replace(task.info, id=name))


def answers(path: Path, frame: np.ndarray) -> dict[str, np.ndarray]:
    """Return every task's logits, each from a session of its own."""
    found = {}
    for task in Bundle.open(path).tasks:
        with runtime.Session.open(path) as session:
            session.switch(task)
            found[task] = session.predict(frame).logits
    return found


def read_everything(path: Path) -> None:
    """Read and check every file of a bundle."""
    opened = Bundle.open(path)
    weights = opened.weights()
    for ref in opened.manifest.graphs():
        opened.graph(ref)
    for task in opened.tasks:
        weights.prepare(opened.task(task, weights.layout).patch)


def as_schema_2(path: Path) -> None:
    """Make a bundle what the second version of the format would have it be."""
    opened = Bundle.open(path).manifest
    files: dict[str, Any] = {}
    layout = Bundle.open(path).layout()
    for entry in (*opened.tasks, *opened.former):
        task = replace(Bundle.open(path).read(entry, layout), schema=1)
        content = encode_task(task)
        name = f"tasks/{entry.id}-{sha256(content)[:16]}.safetensors"
        (path / entry.file.path).unlink()
        (path / name).write_bytes(content)
        files[entry.file.path] = {"path": name, "bytes": len(content), "sha256": sha256(content)}

    def strip(body: dict[str, Any]) -> None:
        del body["requires"], body["optional"]
        for entry in (*body["tasks"], *body["former"]):
            del entry["requires"]
            entry["file"] = files[entry["file"]["path"]]

    rewrite(path, strip, schema=2)


def as_schema_1(path: Path) -> None:
    """Make a bundle what the first version of the format would have it be."""

    as_schema_2(path)

    def strip(body: dict[str, Any]) -> None:
        del body["former"]
        for head in body["heads"]:
            del head["tensors"]

    rewrite(path, strip, schema=1)
