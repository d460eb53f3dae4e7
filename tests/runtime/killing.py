"""Kill a writer of bundles before each of its steps on the disk; a script, see test_killed.py.

Usage: killing.py FOLDER. Prints one JSON document: for each operation the steps it takes, and how
many kills left the old bundle and how many the new one.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from conftest import _make_world

from benchmarks._kill_steps import Steps
from runtime.bundles import bundle, manifest
from runtime.bundles.bundle import Bundle
from runtime.bundles.install import install, remove, rollback
from runtime.bundles.task import Task, encode_task


def newer(task: Task, seed: int, name: str | None = None) -> Task:
    draw = np.random.default_rng(seed)
    head = {n: draw.standard_normal(a.shape).astype("f4") for n, a in task.head_tensors.items()}
    return replace(task, head_tensors=head, info=replace(task.info, id=name or task.info.id))


def state(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Read everything there is; return the versions of tasks and of former ones."""
    opened = Bundle.open(path)
    weights = opened.weights()
    for ref in opened.manifest.graphs():
        opened.graph(ref)
    for entry in (*opened.manifest.tasks, *opened.manifest.former):
        weights.prepare(opened.read(entry, weights.layout).patch)
    tasks, former = (
        {entry.id: entry.file.sha256 for entry in group}
        for group in (opened.manifest.tasks, opened.manifest.former)
    )
    return tasks, former


def try_all(
    start: Path, change: Callable[[Path], object], after: dict[str, Path]
) -> dict[str, object]:
    """Kill `change` on a copy of `start` before its first, second, ... step.

    Args:
        start: A bundle.
        change: What is done to a copy of it.
        after: By base, a file of a task `o-o` that must go in after each kill.
    """
    work = start.with_name("work")

    def fresh() -> None:
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(start, work)

    fresh()
    old = state(work)
    change(work)
    new = state(work)
    assert new != old
    ends = {"old": 0, "new": 0}
    for kill_at in range(10_000):
        fresh()
        report = start.with_name("log.json")
        child = os.fork()
        if child == 0:
            try:
                steps = Steps(kill_at)
                steps.watch()
                change(work)
                steps.kill_at = -1
                report.write_text(json.dumps(steps.log))
                os._exit(0)
            finally:
                os._exit(1)  # never on into the parent's loop
        status = os.waitpid(child, 0)[1]
        found = state(work)
        assert found in (old, new), f"killed at {kill_at}: {found}"
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0 and found == new
            return {"steps": json.loads(report.read_text()), **ends}
        assert os.WTERMSIG(status) == signal.SIGKILL
        ends["old" if found == old else "new"] += 1
        install(work, after[Bundle.open(work).manifest.base.sha256])
        assert state(work)[0].keys() == found[0].keys() | {"o-o"}
        files = {str(f.relative_to(work)) for f in work.rglob("*") if f.is_file()}
        assert files == {manifest.NAME, *(r.path for r in Bundle.open(work).manifest.files())}
    raise AssertionError("a writer that never ends")


def main(folder: Path) -> None:
    world = _make_world(folder / "start", tasks=2)
    rebuilt = _make_world(folder / "rebuilt", tasks=1, seed=9)
    files = {}
    for name, task in (
        ("one", newer(world.tasks["a-b"], 1)),
        ("two", newer(world.tasks["a-b"], 2)),
        ("added", newer(world.tasks["a-c"], 3, "n-n")),
        ("next", newer(world.tasks["a-c"], 4, "o-o")),
        ("next on the new base", newer(rebuilt.tasks["a-b"], 5, "o-o")),
    ):
        files[name] = folder / f"{name}.safetensors"
        files[name].write_bytes(encode_task(task))
    install(world.path, files["one"])  # so that a change has a former version to drop
    after = {
        world.parts["base"].sha256: files["next"],
        rebuilt.parts["base"].sha256: files["next on the new base"],
    }
    changes = {
        "add": lambda path: install(path, files["added"]),
        "replace": lambda path: install(path, files["two"]),
        "remove": lambda path: remove(path, "a-b"),
        "rollback": lambda path: rollback(path, "a-b"),
        "export": lambda path: bundle.write(path, **rebuilt.parts),
    }
    results = {name: try_all(world.path, change, after) for name, change in changes.items()}
    print(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
