"""Run the demo from training to a report: `python -m adapt.demo.run`, or `make demo`.

Runs the commands that a user would type in the folder `demo`, then prints one table and writes a
report with pictures.
"""

from __future__ import annotations

import os
import shlex
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from adapt.artifacts import store
from adapt.data import drawn
from adapt.demo import loop, report
from adapt.demo.shell import Shell
from adapt.progress import progress_bar
from runtime.console import UdaGroup, UserPath, bytes_text, echo, table
from runtime.storage import disk

BUNDLE, LOOP = "demo.bundle", "loop"
SHORT = loop.Schedule(usual=150, drift=100, frames=600, after=150, back=50, epochs=5)
"""The loop's, with fewer frames and epochs than `python -m benchmarks.loop` takes."""
VARIANTS = ("source_only", "cmkd-rst")
"""Variants that the demo trains."""


@dataclass(frozen=True)
class Demo:
    """One task of the demo."""

    dataset: str
    task: str
    source: str
    target: str
    story: str


DEMOS = (
    Demo("demo-digits", "f-h", "font", "hand", "printed digits -> real handwriting"),
    Demo("demo-objects", "p-a", "product", "art", "product shots -> paintings"),
    Demo("demo-objects", "c-r", "clipart", "real", "clip art -> cluttered scenes"),
)


def samples(demo: Demo, split: str, domain: str) -> list[Path]:
    """Return the first image of each class of a domain."""
    root = drawn.render(demo.dataset) / split / domain
    return [sorted(folder.iterdir())[0] for folder in sorted(root.iterdir())]


@click.group(cls=UdaGroup, invoke_without_command=True)
@click.option(
    "--out",
    type=UserPath(file_okay=False),
    default="demo",
    show_default=True,
    help="Folder to write to.",
)
def main(out: Path) -> None:
    """Adapt, export, run, switch and measure on the embedded demo world."""
    started = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    shell = Shell(out)
    for demo in DEMOS:
        where = f"--dataset {demo.dataset} --task {demo.task}"
        click.secho(f"\n== {demo.task}: {demo.story}", bold=True)
        shell(f"uda-adapt train {where} --method source_only --restart")
        shell(f"uda-adapt train {where} --method cmkd --rst --restart")
        shell(f"uda-adapt eval {where} --json eval-{demo.task}.json")
    tasks = " ".join(f"--task {demo.task}" for demo in DEMOS)
    click.secho("\n== from here on, what a device does", bold=True)
    shell(f"uda-export onnx {tasks} --out {BUNDLE}")
    shell(f"uda-runtime info {BUNDLE}")
    for demo in DEMOS:
        images = samples(demo, "test", demo.target)
        files = shlex.join(os.path.relpath(path, out) for path in images)
        shell(
            f"uda-runtime predict {BUNDLE} --task {demo.task} --json seen-{demo.task}.json {files}"
        )
    shell(f"uda-runtime bench {BUNDLE} --samples 200 --batch 1 --batch 8 --json bench.json")
    click.secho("\n== the scene changes, and the camera adapts", bold=True)
    found = _loop(out, shell)
    echo("\n" + _summary(shell))
    with progress_bar() as on_progress:
        page = report.write(
            out,
            [_chapter(demo, out, shell) for demo in DEMOS],
            shell.json("bench.json"),
            _summary(shell),
            (found, out / LOOP),
            on_progress,
        )
    echo(f"\nreport     {page}")
    echo(f"took       {time.monotonic() - started:.0f} s")


def _loop(out: Path, shell: Shell) -> Any:
    """Run the short form of the loop in a folder of its own; return its figures."""
    shell(
        f"uda-adapt train --dataset {loop.DATASET} --task {loop.OLD} --method cmkd --rst "
        f"--set epochs={SHORT.epochs} --no-baselines --restart"
    )
    folder, root = out / LOOP, out / store.ROOT
    if disk.exists(folder):
        shutil.rmtree(folder)
    folder.mkdir()
    tasks = [store.find(root, task, method="cmkd-rst") for task in (loop.OLD, loop.OTHER)]
    return loop.run(Shell(folder), tasks, SHORT, seed=0)


def _chapter(demo: Demo, out: Path, shell: Shell) -> report.Chapter:
    root = out / store.ROOT
    return report.Chapter(
        demo.task,
        demo.story,
        [store.find(root, demo.task, demo.dataset, variant) for variant in VARIANTS],
        samples(demo, "train", demo.source),
        shell.json(f"seen-{demo.task}.json"),
        out,
    )


def _summary(shell: Shell) -> str:
    bench = shell.json("bench.json")
    rows = []
    for demo in DEMOS:
        found = {v["variant"]: v for v in shell.json(f"eval-{demo.task}.json")["variants"]}
        adapted = found["cmkd-rst"]
        latency = next(
            r["predict_ms"]["p50"]
            for r in bench["rows"]
            if r.get("task") == demo.task and r["batch"] == 1
        )
        rows.append(
            [
                f"{demo.task}  {demo.story}",
                *(f"{found[v]['accuracy']:.1f}" for v in ("zero_shot", "source_only", "cmkd-rst")),
                f"{adapted['oracle_best']:.1f}",
                f"{100 * adapted['density']:.2f} %",
                bytes_text(adapted["file_bytes"]),
                f"{latency:.2f} ms",
            ]
        )
    switch = next(r["switch_ms"] for r in bench["rows"] if r["kind"] == "switch")
    header = (
        *("task", "zero-shot", "source-only", "adapted", "oracle-best"),
        *("changed", "artifact", "predict p50"),
    )
    images = {d.task: shell.json(f"eval-{d.task}.json")["variants"][0]["images"] for d in DEMOS}
    counts = ", ".join(f"{task} {count}" for task, count in images.items())
    return (
        f"{table(header, rows)}\n\n"
        f"accuracy in % on held-out target images ({counts}), one seed, of the epoch chosen\n"
        "without labels; oracle-best is the epoch that the test labels would have chosen\n"
        f"switch     p50 {switch['p50']:.3f} ms, p99 {switch['p99']:.3f} ms, in place\n"
        f"open       {bench['open_ms']['open']:.0f} ms"
    )


if __name__ == "__main__":
    main()
