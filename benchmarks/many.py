"""Hundreds of tasks in one bundle: opening, sharing an encoder, mixes, and loading meanwhile.

    python -m benchmarks.many [--model ViT-B-16] [--part open] [--json FILE]

open    Bundles of 1, 20 and 200 tasks over one base, each opened in processes of their own,
        interleaved: time until the first task is loaded, and memory then. Neither should grow.
shared  One frame under 10 tasks that are a head over the untouched encoder, against one;
        interleaved.
mix     Predictions per second against the number of tasks in a mix: tasks with a patch (0.1 %),
        grouped by predict_many and one by one in random order; tasks over the untouched encoder,
        with a frame each, and all under the same frame. All tasks are loaded.
load    Switching between two pinned tasks, and predicting, while a thread reads one other task
        after the other from the disk, against nobody reading; interleaved.

Full-size encoders with random weights, one 224 x 224 frame, two threads. Longer than most files:
four small measurements share one model, one table and one command.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks._resident import resident
from runtime.benchmark.latency import machine, summary, timed
from runtime.benchmark.tasks import mix, one_by_one
from runtime.bundles import manifest
from runtime.console import bytes_text, table, write_json
from runtime.sessions.session import Session

THREADS = 2
OPENED, MIXED = (1, 20, 200), (1, 2, 5, 10, 50, 200)
TARGET = 1.15
PARTS = ("open", "shared", "mix", "load")


def frame() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)


def subset(bundle: Path, count: int, out: Path) -> Path:
    """Return a bundle of the first tasks of another one, whose files it shares."""
    content = manifest.read(bundle)
    content = dataclasses.replace(content, tasks=content.tasks[:count])
    shutil.rmtree(out, ignore_errors=True)
    for ref in content.files():
        target = out / ref.path
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(bundle / ref.path, target)
    (out / manifest.NAME).write_bytes(manifest.encode(content))
    return out


def open_once(bundle: Path) -> dict[str, float]:
    """Return milliseconds and bytes of opening a bundle; run in a process of its own."""
    import onnxruntime  # noqa: F401 - what every bundle needs is not the time of this one

    start = time.perf_counter()
    with Session.open(bundle, threads=THREADS) as session:
        session.switch(session.tasks[0])
        seconds = time.perf_counter() - start
        session.predict(frame())
        return {"ms": 1e3 * seconds, "rss": resident()}


def measure_open(bundle: Path, folder: Path, repeats: int) -> list[dict[str, Any]]:
    bundles = {count: subset(bundle, count, folder / f"{count}.bundle") for count in OPENED}
    found: dict[int, list[dict[str, float]]] = {count: [] for count in OPENED}
    for turn in range(repeats + 1):
        for count in OPENED if turn % 2 else OPENED[::-1]:
            command = [sys.executable, "-m", "benchmarks.many", "--open", str(bundles[count])]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            if turn:  # the first turn fills the page cache
                found[count].append(json.loads(done.stdout))
    return [
        {
            "tasks": count,
            "manifest": (bundles[count] / manifest.NAME).stat().st_size,
            "ms": float(np.median([f["ms"] for f in own])),
            "rss": float(np.median([f["rss"] for f in own])),
        }
        for count, own in found.items()
    ]


def measure_shared(bundle: Path, plain: list[str], samples: int) -> dict[str, Any]:
    still = frame()
    one, many = ([(still, task) for task in plain[:count]] for count in (1, 10))
    with Session.open(bundle, threads=THREADS) as session:
        times: tuple[list[float], list[float]] = ([], [])
        for turn in range(samples + 2):
            for side in (0, 1) if turn % 2 else (1, 0):
                seconds = timed(lambda: session.predict_many((one, many)[side]))  # noqa: B023
                if turn > 1:
                    times[side].append(seconds)
    ratio = float(np.median(np.array(times[1]) / np.array(times[0])))
    return {"one": summary(times[0]), "ten": summary(times[1]), "ratio": ratio}


def measure_mix(
    bundle: Path, patched: list[str], plain: list[str], frames: int
) -> list[dict[str, Any]]:
    rows = []
    with Session.open(bundle, threads=THREADS) as session:
        for task in (*patched, *plain):
            session.load(task)
        session.predict_many(mix(patched, 2, frame(), 0)[:2])
        for count in MIXED:
            own, heads = (mix(tasks[:count], frames, frame(), 1) for tasks in (patched, plain))
            same = [(heads[0][0], task) for task in plain[:count]]
            few = own[:50]  # in random order a frame costs the same however many follow
            sides: dict[str, tuple[int, Callable[[], object]]] = {
                "grouped": (len(own), lambda: session.predict_many(own)),  # noqa: B023
                "one_by_one": (len(few), lambda: one_by_one(session, few)),  # noqa: B023
                "untouched": (len(heads), lambda: session.predict_many(heads)),  # noqa: B023
                "same_frame": (len(same), lambda: session.predict_many(same)),  # noqa: B023
            }
            rates = {name: number / _typical(call) for name, (number, call) in sides.items()}
            rows.append({"tasks": count, "frames": len(own), **rates})
    return rows


def _typical(call: Callable[[], object]) -> float:
    """Return the median seconds of a call, repeated for a second."""
    times = [timed(call)]
    while sum(times) < 1 and len(times) < 20:
        times.append(timed(call))
    return float(np.median(times))


def measure_load(bundle: Path, tasks: list[str], samples: int) -> dict[str, Any]:
    first, second, *others = tasks
    reading, stop, read = threading.Event(), threading.Event(), [0]
    with Session.open(bundle, threads=THREADS) as session:
        bound = 8 * session.load(first)
    with Session.open(bundle, threads=THREADS, max_task_bytes=bound) as session:
        session.pin(first)
        session.pin(second)
        session.switch(first)

        def load() -> None:
            draw = np.random.default_rng(0)
            while not stop.is_set():
                reading.wait()
                task = str(draw.choice(others))
                session.prefetch(task)
                while task not in session.resident and not stop.is_set():
                    time.sleep(1e-3)
                read[0] += 1

        thread = threading.Thread(target=load, daemon=True)
        thread.start()
        times: dict[str, dict[str, list[float]]] = {
            side: {"switch": [], "predict": []} for side in ("quiet", "reading")
        }
        still = frame()
        for turn in range(samples // 10):
            side = ("quiet", "reading")[turn % 2]
            (reading.set if side == "reading" else reading.clear)()
            time.sleep(0.05)  # a read that has begun ends
            times[side]["predict"] += [timed(lambda: session.predict(still)) for _ in range(2)]
            for number in range(20):
                task = (second, first)[number % 2]
                times[side]["switch"].append(timed(lambda: session.switch(task)))  # noqa: B023
        stop.set()
        reading.set()
        thread.join()
    return {
        "read": read[0],
        **{side: {k: summary(v) for k, v in own.items()} for side, own in times.items()},
    }


def render(found: dict[str, Any]) -> str:
    texts = []
    if rows := found.get("open"):
        cells = [
            [r["tasks"], bytes_text(r["manifest"]), f"{r['ms']:.0f}", bytes_text(int(r["rss"])),
             f"{r['ms'] / rows[0]['ms']:.3f} x", f"{r['rss'] / rows[0]['rss']:.3f} x"]
            for r in rows
        ]  # fmt: skip
        texts.append(
            table(("tasks", "manifest", "open + first task, ms", "RSS", "ms / 1", "RSS / 1"), cells)
        )
    if shared := found.get("shared"):
        texts.append(
            f"one frame under 10 tasks of the untouched encoder: {shared['ten']['p50']:.1f} ms, "
            f"under one {shared['one']['p50']:.1f} ms: {shared['ratio']:.3f} x (target: at most "
            f"{TARGET} x)"
        )
    if rows := found.get("mix"):
        keys = ("grouped", "one_by_one", "untouched", "same_frame")
        cells = [[r["tasks"], r["frames"], *(f"{r[key]:.1f}" for key in keys)] for r in rows]
        header = ("patches, grouped", "patches, one by one", "untouched encoder", "the same frame")
        texts.append(
            table(("tasks in the mix", "frames", *header), cells) + "\npredictions per second"
        )
    if load := found.get("load"):
        cells = [
            [f"{what}, {side}", *(f"{load[side][what][p]:.3f}" for p in ("p50", "p99")),
             f"{load[side][what]['p99'] / load[side][what]['p50']:.2f}"]
            for what in ("switch", "predict") for side in ("quiet", "reading")
        ]  # fmt: skip
        texts.append(
            table(("milliseconds", "p50", "p99", "p99/p50"), cells)
            + f"\n{load['read']} tasks were read meanwhile"
        )
    return "\n\n".join(texts)


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), default=Path("artifacts/benchmarks"))
@click.option("--model", "name", default="ViT-B-16", show_default=True)
@click.option("--part", "parts", multiple=True, type=click.Choice(PARTS), default=PARTS)
@click.option("--repeats", default=5, show_default=True, help="Openings of each bundle.")
@click.option("--samples", type=click.IntRange(min=20), default=200, show_default=True)
@click.option("--frames", default=16, show_default=True, help="Frames in a mix of few tasks.")
@click.option("--json", "json_file", type=click.Path(path_type=Path))
@click.option("--picture", "picture_file", type=click.Path(path_type=Path), help="PNG of the mix.")
@click.option("--open", "opened", type=click.Path(path_type=Path), hidden=True)
def main(
    folder: Path,
    name: str,
    parts: tuple[str, ...],
    repeats: int,
    samples: int,
    frames: int,
    json_file: Path | None,
    picture_file: Path | None,
    opened: Path | None,
) -> None:
    """Measure the cost of hundreds of tasks."""
    if opened is not None:
        click.echo(json.dumps(open_once(opened)))
        return
    from benchmarks._models import many_tasks

    model = many_tasks(name, folder, 0.001)
    patched, plain = list(model.tasks), list(model.plain)
    found: dict[str, Any] = {}
    if "open" in parts:
        found["open"] = measure_open(model.bundle, folder / "many" / f"{name}-subsets", repeats)
    if "shared" in parts:
        found["shared"] = measure_shared(model.bundle, plain, samples // 10)
    if "mix" in parts:
        found["mix"] = measure_mix(model.bundle, patched, plain, frames)
    if "load" in parts:
        found["load"] = measure_load(model.bundle, patched, samples)
    click.echo(render(found))
    if json_file:
        write_json(json_file, {"model": name, **found, "machine": machine()})
    if picture_file and "mix" in found:
        from benchmarks._pictures import draw_mix

        draw_mix(name, found["mix"], picture_file)


if __name__ == "__main__":
    main()
