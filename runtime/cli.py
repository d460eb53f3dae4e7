"""`uda-runtime`: look into a bundle, predict, measure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from runtime.console import UdaGroup, bytes_text, table, write_json

if TYPE_CHECKING:
    from runtime.manifest import Encoder

_BUNDLE = click.argument("bundle", type=click.Path(path_type=Path))
_DEVICE = click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="Where engines run; one that is not there is an error.",
)
_BACKEND = click.option("--backend", default="ort", show_default=True, help="Kind of engine.")
_THREADS = click.option(
    "--threads", type=click.IntRange(min=1), help="CPU threads; the backend decides if not given."
)


@click.group(cls=UdaGroup)
@click.version_option(package_name="uda-edge")
def main() -> None:
    """Run adapted vision models and switch their task in place."""


@main.command()
@_BUNDLE
@click.option("--check", is_flag=True, help="Also read every file and check its digest.")
def info(bundle: Path, check: bool) -> None:
    """Show what a bundle holds."""
    from runtime.bundle import Bundle

    opened = Bundle.open(bundle)
    manifest = opened.manifest
    base = manifest.base
    click.echo(
        f"base      {base.architecture} / {base.pretrained}, sha256 {base.sha256[:12]}, "
        f"{manifest.precision}, {bytes_text(manifest.tensors.bytes)}"
    )
    graphs = manifest.graphs()
    size = bytes_text(sum(ref.bytes for ref in graphs))
    click.echo(f"graphs    {len(graphs)} without weights, {size}\n")
    rows = [
        [
            task.id,
            task.dataset,
            f"{task.source} -> {task.target}",
            task.classes,
            task.method,
            f"{task.resize} {manifest.encoder(task).size}, {task.interpolation}",
            _encoder(manifest.encoder(task)),
            manifest.head(task).kind,
            f"{task.changed:,}",
            f"{task.changed / manifest.parameters:.3%}",
            bytes_text(task.file.bytes),
        ]
        for task in manifest.tasks
    ]
    header = (
        *("task", "data set", "domains", "classes", "method", "frames", "encoder", "head"),
        *("changed", "patch", "file"),
    )
    click.echo(table(header, rows))
    if check:
        weights = opened.weights()
        for ref in manifest.graphs():
            opened.graph(ref)
        for task in opened.tasks:
            weights.prepare(opened.task(task, weights.layout).patch)
        click.echo(f"\nchecked   {len(manifest.files())} files, all whole")


def _encoder(encoder: Encoder) -> str:
    """Say what an encoder takes beside the base: `base`, or `base + 12 x 4 tokens`."""
    counts = [shape[0] for shape in encoder.tokens.values()]
    if not counts:
        return "base"
    same = len(set(counts)) == 1
    number = f"{len(counts)} x {counts[0]}" if same else str(sum(counts))
    return f"base + {number} tokens"


@main.command()
@_BUNDLE
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--task", help="Task to judge with; may be left out if the bundle has one.")
@click.option("--top", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write JSON.")
@_BACKEND
@_DEVICE
@_THREADS
def predict(
    bundle: Path,
    images: tuple[Path, ...],
    task: str | None,
    top: int,
    json_file: Path | None,
    backend: str,
    device: str,
    threads: int | None,
) -> None:
    """Say what is on IMAGES."""
    from runtime.preprocess import read_image
    from runtime.session import Session

    results = []
    with Session.open(bundle, backend=backend, device=device, threads=threads) as session:
        if task is not None:
            session.switch(task)
        for path in images:
            best = session.predict(read_image(path)).top(top)
            results.append({"image": str(path), "task": session.task, "top": best})
            click.echo(f"{path}: " + ", ".join(f"{label} {score:.1%}" for label, score in best))
    if json_file is not None:
        write_json(json_file, results)


@main.command()
@_BUNDLE
@click.option("--task", "tasks", multiple=True, help="Task to measure; all if not given.")
@click.option("--batch", "batches", multiple=True, type=click.IntRange(1, 1024), default=(1,))
@click.option("--samples", type=click.IntRange(min=2), default=100, show_default=True)
@click.option("--warmup", type=click.IntRange(min=0), default=10, show_default=True)
@click.option("--image", type=click.Path(path_type=Path), help="Frame to use; else noise 640x480.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Also write JSON.")
@_BACKEND
@_DEVICE
@_THREADS
def bench(
    bundle: Path,
    tasks: tuple[str, ...],
    batches: tuple[int, ...],
    samples: int,
    warmup: int,
    image: Path | None,
    json_file: Path | None,
    backend: str,
    device: str,
    threads: int | None,
) -> None:
    """Measure latency from frame in to prediction out, and of switching."""
    import sys

    import numpy as np

    from runtime import bench as measuring
    from runtime.bundle import Bundle
    from runtime.preprocess import read_image
    from runtime.session import Session

    content = Bundle.open(bundle)
    for task in tasks:
        content.entry(task)
    chosen = tuple(dict.fromkeys(tasks)) or content.tasks
    plan = measuring.Plan(chosen, tuple(dict.fromkeys(batches)), samples, warmup)
    frame = (
        np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
        if image is None
        else read_image(image)
    )

    def open_session() -> Session:
        return Session.open(bundle, backend=backend, device=device, threads=threads)

    first = measuring.measure_open(open_session, frame)
    groups = len(plan.tasks) * len(plan.batches) + (len(plan.tasks) > 1)
    with (
        open_session() as session,
        click.progressbar(length=groups * samples, label="measuring", file=sys.stderr) as bar,
    ):
        rows = list(measuring.measure(session, plan, frame, lambda: bar.update(1)))
        report = {
            "bundle": str(bundle),
            "backend": session.backend.version,
            "device": device,
            "precision": content.manifest.precision,
            "frame": f"{frame.shape[1]}x{frame.shape[0]}",
            "threads": threads,
            "warmup": warmup,
            "open_ms": first,
            "rows": rows,
            "peak_rss_bytes": measuring.peak_rss(),
            "machine": measuring.machine(),
        }
    click.echo(measuring.render(report))
    if json_file is not None:
        write_json(json_file, report)
