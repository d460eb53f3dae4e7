"""Compare `uda-runtime predict` on a folder with `predict_many` in a script without a loop.

    python -m benchmarks.predict [--bundle demo/demo.bundle] [--rounds 11] [--json FILE]

650 images of a folder to a CSV file: digits of the demo world (PNG, 32 x 32) and photographs (JPEG,
640 x 480; scikit-learn's). `library`: what the command does once the bundle is open, against one
call of `predict_many` with all paths, which decodes them one after the other. `process`: the
command in a process of its own, against a script, both from the start of Python to the file. Both
sides run interleaved; the ratio is the median over the pairs, and both must give the same labels.
Exits with 1 where the command takes more than 1.5 times as long.
"""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

from adapt.data import drawn
from benchmarks.preprocess import photograph
from benchmarks.switches import commit
from runtime.benchmark.latency import machine, summary, timed
from runtime.commands import predict as command
from runtime.console import table, write_json
from runtime.sessions.session import Session
from runtime.sources.select import select

TASK = "f-h"
IMAGES, PHOTOS = 650, 13
"""Images in a folder, and how many different photographs are among them."""
TARGET = 1.5
SCRIPT = """
import csv, sys
from pathlib import Path
import runtime

bundle, folder, out = sys.argv[1:]
with runtime.Session.open(bundle) as session, open(out, "w", newline="") as file:
    paths = sorted(Path(folder).iterdir())
    found = session.predict_many([(path, {task!r}) for path in paths])
    csv.writer(file).writerow(["image", "label", "score"])
    csv.writer(file).writerows([path, p.label, p.score] for path, p in zip(paths, found))
"""


def pairs(ours: Callable[[], object], theirs: Callable[[], object], samples: int) -> dict[str, Any]:
    """Time both, interleaved and in changing order, and return their summaries and the ratio."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(samples):
        for side in (0, 1) if number % 2 else (1, 0):
            times[side].append(timed((ours, theirs)[side]))
    return {
        "session": summary(times[0]),
        "bare": summary(times[1]),
        "ratio": float(np.median(np.array(times[0]) / np.array(times[1]))),
        "ratio_of_minima": min(times[0]) / min(times[1]),
    }


def digits(folder: Path) -> None:
    images = sorted((drawn.render("demo-digits") / "test" / "hand").glob("*/*.png"))[:IMAGES]
    for number, path in enumerate(images):
        shutil.copy(path, folder / f"{number:03}.png")


def photos(folder: Path) -> None:
    pixels = photograph(480, 640)
    for number in range(IMAGES):
        path = folder / f"{number:03}.jpg"
        if number < PHOTOS:
            Image.fromarray(pixels).rotate(number).save(path, quality=90)
        else:
            shutil.copy(folder / f"{number % PHOTOS:03}.jpg", path)


def labels(path: Path) -> list[str]:
    with path.open(newline="") as file:
        return [row["label"] for row in csv.DictReader(file)]


def in_process(session: Session, folder: Path, out: Path) -> tuple[Callable[[], object], ...]:
    """Return both sides as calls."""
    ours_file, bare_file = out / "ours.csv", out / "bare.csv"

    def ours() -> None:
        with redirect_stdout(StringIO()):
            command.run(session, select([str(folder)]), {"csv": ours_file}, top=1, batch=32)

    def bare() -> None:
        paths = sorted(folder.iterdir())
        found = session.predict_many([(path, TASK) for path in paths])
        with bare_file.open("w", newline="") as file:
            csv.writer(file).writerow(["image", "label", "score"])
            rows = zip(paths, found, strict=True)
            csv.writer(file).writerows([path, p.label, p.score] for path, p in rows)

    return ours, bare


def as_process(bundle: Path, folder: Path, out: Path) -> tuple[Callable[[], object], ...]:
    """Return both sides as processes of their own."""
    script = out / "bare.py"
    script.write_text(SCRIPT.format(task=TASK))
    options = ["--task", TASK, "--csv", out / "ours.csv"]
    words = [
        [sys.executable, "-m", "runtime", "predict", bundle, folder, *options],
        [sys.executable, script, bundle, folder, out / "bare.csv"],
    ]

    def run(command: list[Any]) -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    return lambda: run(words[0]), lambda: run(words[1])


def measure(bundle: Path, kind: str, folder: Path, rounds: int) -> list[dict[str, Any]]:
    rows = []
    with tempfile.TemporaryDirectory() as name, Session.open(bundle) as session:
        session.switch(TASK)
        out = Path(name)
        sides = {
            "library": in_process(session, folder, out),
            "process": as_process(bundle, folder, out),
        }
        for where, (ours, bare) in sides.items():
            ours(), bare()
            if labels(out / "ours.csv") != labels(out / "bare.csv"):
                raise click.ClickException(f"{kind}, {where}: the two sides differ")
            found = pairs(ours, bare, rounds)
            found["command"] = found.pop("session")
            rows.append({"images": kind, "where": where, "target": TARGET, **found})
    return rows


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path), default=Path("demo/demo.bundle"))
@click.option("--rounds", type=click.IntRange(min=3), default=11, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(bundle: Path, rounds: int, json_file: Path | None) -> None:
    """Measure 650 images of a folder to CSV, against a bare call of `predict_many`."""
    rows = []
    for kind, make in {"digits": digits, "photographs": photos}.items():
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "images"
            folder.mkdir()
            make(folder)
            rows += measure(bundle, kind, folder, rounds)
    header = ("", "command p50", "bare p50", "ratio", "of minima", "target", "n")
    cells = [
        [
            f"{r['images']}, {r['where']}",
            *(f"{r[side]['p50']:.0f}" for side in ("command", "bare")),
            f"{r['ratio']:.2f} x",
            f"{r['ratio_of_minima']:.2f} x",
            f"{r['target']:.1f} x",
            str(r["command"]["samples"]),
        ]
        for r in rows
    ]
    click.echo(table(header, cells))
    click.echo(f"\nmilliseconds for {IMAGES} images; ratio: median over interleaved pairs")
    if json_file:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        write_json(json_file, {"commit": commit(), "rows": rows, "machine": machine()})
    sys.exit(any(r["ratio"] > r["target"] for r in rows))


if __name__ == "__main__":
    main()
