"""Compare sessions on a GPU with PyTorch, baked engines and the physical bound.

    python -m benchmarks.gpu [--model ViT-B-16] [--batch 1] [--json FILE]

Full-size models with random weights and 65 classes, fp16, 224 x 224 pixels, host to host. All sides
of a row run interleaved. The bound of a frame is the larger of the work at the speed that products
of large matrices reach here, and reading the weights once at the speed of a large copy. A side that
cannot run is named with the reason, never replaced. torch.compile comes last, beside eager PyTorch.

A switch is timed twice: what the caller waits for, and until the device is done with it. Its bound
is the memory it has to move; targets per device are in `targets.py`. Camera frames are resized on
the GPU. A watched frame is one with its novelty, affinity and drift, beside the same without them;
a look is a frame through the untouched base, with the switches there and back. Memory per task is
what the driver says is gone after loading tasks, divided by their number.

With `--json` the file is written again after every row. `--device cpu` tries the benchmark itself
out on a machine without a GPU; its numbers mean nothing, and there is no bound.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks._models import make_model
from benchmarks.gpu.measure import (
    DENSITY,
    FORMS,
    TASKS,
    measure_engines,
    measure_frames,
    measure_switches,
    reason,
)
from benchmarks.gpu.needs import unseen
from benchmarks.gpu.peers import GMACS, roofline
from benchmarks.gpu.tables import show
from benchmarks.gpu.targets import frame_ratios
from benchmarks.gpu.watched import measure_watching
from runtime.benchmark.latency import machine
from runtime.console import write_json
from runtime.models import Precision


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), default=Path("artifacts/benchmarks"))
@click.option("--model", "names", multiple=True, type=click.Choice(sorted(GMACS)))
@click.option("--batch", "batches", multiple=True, type=click.IntRange(1), default=(1, 8, 32))
@click.option("--samples", type=click.IntRange(min=2), default=1024, show_default=True)
@click.option("--device", default="cuda", show_default=True)
@click.option("--compile/--no-compile", "compiled", default=True, help="Also torch.compile.")
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(
    folder: Path,
    names: tuple[str, ...],
    batches: tuple[int, ...],
    samples: int,
    device: str,
    compiled: bool,
    json_file: Path | None,
) -> None:
    """Measure frames, switches and engines on a GPU."""
    if device != "cpu" and not torch.cuda.is_available():
        why = unseen(torch.__version__, torch.version.cuda)
        raise click.ClickException(f"{why}; or try the benchmark itself out with --device cpu")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    roof, gpu = None, device
    document: dict[str, Any] = {"machine": machine(), "gpu": gpu}
    if device != "cpu":
        roof, gpu = roofline(device), torch.cuda.get_device_name(device)
        click.echo(f"{gpu}: {roof.flops / 1e12:.1f} TFLOP/s, {roof.bandwidth / 1e9:.0f} GB/s\n")
        document |= {"gpu": gpu, "roofline": vars(roof)}
    save(json_file, document)
    precision: Precision = "fp32" if device == "cpu" else "fp16"
    for name in names or tuple(GMACS):
        models = {
            form: make_model(name, folder / subfolder, (DENSITY,), tasks, precision, baked=False)
            for form, subfolder, tasks in (("patch", "gpu", TASKS), ("engines", "gpu-one", 1))
        }
        engines: list[dict[str, Any]] = []
        switches: list[dict[str, Any]] = []
        frames: list[dict[str, Any]] = []
        watching: list[dict[str, Any]] = []
        document[name] = {"engines": engines, "switches": switches, "watching": watching}
        document[name]["frames"] = frames
        for label, (backend, strategy) in FORMS.items():
            with _reasons(engines, label):
                engines.append(measure_engines(models, label, device))
                if strategy == "patch":
                    switches.append(
                        measure_switches(models["patch"], backend, samples, device, roof)
                    )
                    watching.append(measure_watching(models["patch"], backend, samples, device))
            save(json_file, document)
        for row in measure_frames(name, models, batches, samples, device, roof, compiled):
            frames.append(row)
            save(json_file, document)
        document[name]["ratios"] = frame_ratios(frames)
        save(json_file, document)
        show(name, frames, switches, engines, document[name]["ratios"], watching)


def save(path: Path | None, document: dict[str, Any]) -> None:
    """Write the rows measured so far, in case the next one fails."""
    if path:
        write_json(path, document)


@contextmanager
def _reasons(rows: list[dict[str, Any]], label: str) -> Iterator[None]:
    try:
        yield
    except subprocess.CalledProcessError as error:
        rows.append({"side": label, "reason": error.stderr.strip()[-500:]})
    except Exception as error:  # also what no GPU has shown us yet: the others still count
        rows.append({"side": label, "reason": reason(error)})


if __name__ == "__main__":
    main()
