"""The bundle of a soak test in two versions, with every answer computed beforehand."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.bundles.bundle import Bundle
from runtime.bundles.install import install, remove, rollback
from runtime.bundles.task import encode_task
from runtime.sessions.session import Session

TASKS, PLAIN, FRAMES, BATCH = 20, 6, 6, 5
DENSITY = 0.005


def prepare(models: Path, folder: Path) -> None:
    """Write the bundle in both versions, and the task files of the second one.

    Args:
        models: Folder of `benchmarks._models`.
        folder: Empty folder to write to.
    """
    from benchmarks._models import make_model  # torch, which a soak does without
    from benchmarks._random import moved

    model = make_model("demo-rn32", models, (DENSITY,), TASKS, plain=PLAIN, baked=False)
    for copy in ("first", "other", "live"):
        shutil.copytree(model.bundle, folder / f"{copy}.bundle")
    content = Bundle.open(model.bundle)
    weights = content.weights()
    for number, task in enumerate(content.tasks):
        read = content.task(task, weights.layout)
        heads = dict(read.head_tensors)
        heads["linear.weight"] = -heads["linear.weight"]
        patch = moved(read.patch, weights.views(), 1000 + number)
        file = folder / f"{task}.safetensors"
        file.write_bytes(encode_task(dataclasses.replace(read, head_tensors=heads, patch=patch)))
        install(folder / "other.bundle", file)
    broken = bytearray(file.read_bytes())
    broken[len(broken) // 2] ^= 1
    (folder / "damaged.safetensors").write_bytes(broken)


class World:
    """A bundle that changes while sessions run from it, with the answers of each task's versions.

    Every task has the versions "a", which it starts with, and "b"; `None` stands for a task that
    was removed. The rules of install, remove and rollback are repeated here in a few lines, as
    the reference for what the bundle must do.
    """

    def __init__(self, folder: Path) -> None:
        """Read the files that `prepare` wrote to `folder`, and compute every answer."""
        self.bundle = folder / "live.bundle"
        content = Bundle.open(folder / "first.bundle")
        self.tasks = content.tasks
        self.plain = tuple(e.id for e in content.manifest.tasks if not e.changed)
        self.files = {
            (entry.id, "a"): content.path / entry.file.path for entry in content.manifest.tasks
        }
        self.files |= {(task, "b"): folder / f"{task}.safetensors" for task in self.tasks}
        self.damaged = folder / "damaged.safetensors"
        draw = np.random.default_rng(0)
        # One has the size of the graph, the others are resized.
        sizes = [(32, 32), *draw.integers(24, 200, (FRAMES - 1, 2)).tolist()]
        self.frames = [draw.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
        self._single: dict[tuple[str, str], list[NDArray[np.float32]]] = {}
        self._batch: dict[tuple[str, str], list[NDArray[np.float32]]] = {}
        for version, path in (("a", content.path), ("b", folder / "other.bundle")):
            with Session.open(path, threads=1) as session:
                for task in self.tasks:
                    session.switch(task)
                    self._single[task, version] = [session.predict(f).logits for f in self.frames]
                    batch = session.predict_batch(self.frames[:BATCH])
                    self._batch[task, version] = [p.logits for p in batch]
        self._current: dict[str, str | None] = dict.fromkeys(self.tasks, "a")
        self._former: dict[str, str] = {}
        self._allowed: dict[str, frozenset[str | None]] = {
            task: frozenset("a") for task in self.tasks
        }

    def allowed(self, task: str) -> frozenset[str | None]:
        """Return the versions that may answer now; two while a task is being changed."""
        return self._allowed[task]

    def there(self) -> list[str]:
        """Return the tasks that are not removed, or being removed."""
        return [task for task, versions in self._allowed.items() if None not in versions]

    def right(
        self,
        task: str,
        position: int,
        logits: NDArray[np.float32],
        versions: frozenset[str | None],
        batch: bool = False,
    ) -> bool:
        """Tell whether logits are, bit for bit, what one of the versions answers alone."""
        answers = self._batch if batch else self._single
        return any(
            np.array_equal(answers[task, version][position], logits)
            for version in versions
            if version is not None
        )

    def change(self, session: Session, draw: np.random.Generator) -> str:
        """Make one random change, refresh the session, and check its answer.

        Raises:
            AssertionError: The bundle or the session did something else than the rules say.
        """
        task = str(draw.choice(self.tasks))
        now, former = self._current[task], self._former.get(task)
        gone = [t for t, version in self._current.items() if version is None]
        kind = str(draw.choice(["install", "install", "remove", "rollback"]))
        if kind == "remove" and (now is None or len(gone) >= 2):
            kind = "install"
        if kind == "rollback" and former is None:
            kind = "install"
        after: str | None
        if kind == "install":
            after = str(draw.choice(["a", "b"]))
        else:
            after = None if kind == "remove" else former
        self._allowed[task] = frozenset({now, after})
        if kind == "install":
            install(self.bundle, self.files[task, str(after)])
        elif kind == "remove":
            remove(self.bundle, task)
        else:
            rollback(self.bundle, task)
        if now != after:
            if now is not None:
                self._former[task] = now
            elif kind == "rollback":
                del self._former[task]
        changed = session.refresh()
        assert changed == ((task,) if now != after else ()), f"{kind} {task} changed {changed}"
        self._current[task] = after
        self._allowed[task] = frozenset({after})
        return kind


if __name__ == "__main__":
    prepare(Path(sys.argv[1]), Path(sys.argv[2]))
