"""Run the demo from training to a report: `python -m adapt.demo.run`, or `make demo`.

Runs the commands that a user would type in the folder `demo`, then prints one table and writes a
report with pictures.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from adapt.artifacts import store
from adapt.data import drawn
from adapt.demo import report
from adapt.progress import progress_bar
from runtime.console import UdaGroup, UserPath, bytes_text, echo, table
from runtime.errors import UdaError

BUNDLE = "demo.bundle"
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


class _Shell:
    """Runs commands in one folder and times them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, command: str) -> None:
        name, *arguments = shlex.split(command)
        program = Path(sys.executable).parent / name
        click.secho(f"\n$ {command}", bold=True)
        started = time.monotonic()
        done = subprocess.run([program, *arguments], cwd=self.folder, check=False)
        if done.returncode:
            raise UdaError(f"'{command}' failed with exit code {done.returncode}; see above")
        click.secho(f"({time.monotonic() - started:.0f} s)", dim=True)

    def json(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text())


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
    shell = _Shell(out)
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
    echo("\n" + _summary(shell))
    with progress_bar() as on_progress:
        page = report.write(
            out,
            [_chapter(demo, out, shell) for demo in DEMOS],
            shell.json("bench.json"),
            _summary(shell),
            on_progress,
        )
    echo(f"\nreport     {page}")
    echo(f"took       {time.monotonic() - started:.0f} s")


def _chapter(demo: Demo, out: Path, shell: _Shell) -> report.Chapter:
    root = out / store.ROOT
    return report.Chapter(
        demo.task,
        demo.story,
        [store.find(root, demo.task, demo.dataset, variant) for variant in VARIANTS],
        samples(demo, "train", demo.source),
        shell.json(f"seen-{demo.task}.json"),
        out,
    )


def _summary(shell: _Shell) -> str:
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
