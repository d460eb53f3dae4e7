"""Fuzz every reader of files from outside: whatever a file holds, the only error is a `UdaError`.

    python -m benchmarks.fuzz [--minutes 20] [--seed N] [--json FILE]

Damages manifests, task files, graphs, base weights and images at random, bytes and JSON alike.
Where a format has a digest, half of the damaged files get a right one, to reach the code behind the
check. Exits with 1 if a reader raises anything but a `UdaError` or takes more than 5 seconds; the
file is kept in `artifacts/fuzz`. The same seed damages the same files.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image
from safetensors.numpy import save

from benchmarks._damage import damage, damage_json
from runtime.benchmark.latency import machine
from runtime.bundles import manifest
from runtime.bundles.bundle import Bundle
from runtime.bundles.task import FEATURES, KIND, SCHEMA, decode_task
from runtime.bundles.weights_file import read_weights
from runtime.console import table, write_json
from runtime.errors import UdaError
from runtime.frames.preprocess import read_image
from runtime.graphs.check import check_graph
from runtime.storage import checksummed
from runtime.storage.digest import tensors_sha256
from runtime.storage.files import sha256

KEPT = Path("artifacts/fuzz")
SLOW = 5.0
"""Seconds that a reader may take for one small file."""
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")


@dataclass(frozen=True)
class Target:
    """A reader, and whole files that it accepts."""

    name: str
    seeds: list[bytes]
    read: Callable[[bytes], object]
    reseal: Callable[[bytes, np.random.Generator], bytes] | None = None
    """Damages the content behind the digest, and makes the digest right."""


def reseal_manifest(content: bytes, draw: np.random.Generator) -> bytes:
    """Damage the body of a manifest, and make its digest right."""
    document = json.loads(content)
    document["body"] = damage_json(document["body"], draw)
    text = json.dumps(document["body"], sort_keys=True, separators=(",", ":"))
    return json.dumps({**document, "sha256": sha256(text.encode())}).encode()


def reseal_task(content: bytes, draw: np.random.Generator) -> bytes:
    """Damage the document or a tensor of a task file, and make its digest right."""
    file = checksummed.read(Path("seed"), KIND, SCHEMA, features=FEATURES, content=content)
    document = {**file.document, "requires": list(file.requires), "optional": dict(file.optional)}
    tensors = dict(file.tensors)
    if draw.random() < 0.5:
        document = damage_json(document, draw)
    else:
        name = str(draw.choice(sorted(tensors)))
        flat = np.frombuffer(damage(tensors[name].tobytes(), draw), np.uint8)
        width = tensors[name].dtype.itemsize
        tensors[name] = flat[: len(flat) // width * width].view(tensors[name].dtype)
    return checksummed.encode(KIND, SCHEMA, document, tensors)


def targets(bundle: Bundle, place: Path) -> list[Target]:
    """Return every reader with its seeds.

    Args:
        bundle: Bundle whose files are the seeds.
        place: Folder for files that a reader takes by path.
    """
    layout, identity = bundle.layout(), bundle.manifest.tensors.sha256
    own, path = bundle.manifest, place / "file"
    # A small base: what matters is the header.
    tensors = {f"{n}.weight": np.full((4, n + 1), n, np.float32) for n in range(3)}

    def read_manifest(content: bytes) -> None:
        (place / manifest.NAME).write_bytes(content)
        manifest.read(place)

    def read_base(content: bytes) -> None:
        path.write_bytes(content)
        read_weights(path, len(content), tensors_sha256(tensors))

    def read_picture(content: bytes) -> None:
        path.write_bytes(content)
        read_image(path)

    graphs = [
        (ref, kind)
        for ref, kind in ((own.encoders[0].graph, "encoder"), (own.heads[0].graph, "head"))
    ]
    return [
        Target(
            "manifest", [(bundle.path / manifest.NAME).read_bytes()], read_manifest, reseal_manifest
        ),
        Target(
            "task file",
            [(bundle.path / entry.file.path).read_bytes() for entry in own.tasks[::7]],
            lambda content: decode_task(content, path, identity, layout),
            reseal_task,
        ),
        *(
            Target(
                f"graph of an {kind}" if kind == "encoder" else f"graph of a {kind}",
                [bundle.graph(ref)],
                lambda content, kind=kind: check_graph(content, kind, "graph"),
            )
            for ref, kind in graphs
        ),
        Target("base weights", [save(tensors)], read_base),
        Target("image", list(_pictures()), read_picture),
    ]


def _pictures() -> Iterator[bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    for form in FORMATS:
        stream = BytesIO()
        Image.fromarray(pixels).save(stream, form)
        yield stream.getvalue()


def attempt(target: Target, content: bytes) -> tuple[str, str]:
    """Return `accepted`, `refused` or `failed`, and what failed."""
    start = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of what is refused later
            target.read(content)
        found = "accepted"
    except UdaError:
        found = "refused"
    except Exception:
        return "failed", traceback.format_exc(limit=-3)
    seconds = time.perf_counter() - start
    return ("failed", f"took {seconds:.1f} s") if seconds > SLOW else (found, "")


def fuzz(chosen: list[Target], seconds: float, draw: np.random.Generator) -> dict[str, Any]:
    """Damage files for a while; return the counts, and a line for everything that failed."""
    counts: Counter[tuple[str, str]] = Counter()
    failures: dict[str, str] = {}
    end = time.monotonic() + seconds
    while time.monotonic() < end and len(failures) < 10:
        for target in chosen:
            seed = target.seeds[int(draw.integers(len(target.seeds)))]
            sealed = target.reseal is not None and draw.random() < 0.5
            content = target.reseal(seed, draw) if sealed and target.reseal else damage(seed, draw)
            found, why = attempt(target, content)
            counts[target.name, found] += 1
            if found == "failed":
                KEPT.mkdir(parents=True, exist_ok=True)
                file = KEPT / f"{target.name.replace(' ', '-')}-{sha256(content)[:8]}"
                file.write_bytes(content)
                failures.setdefault(why, f"{target.name}, kept as '{file}': {why}")
    rows = [
        {
            "target": target.name,
            **{k: counts[target.name, k] for k in ("refused", "accepted", "failed")},
        }
        for target in chosen
    ]
    return {"rows": rows, "failures": list(failures.values())}


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), default=Path("artifacts/benchmarks"))
@click.option("--minutes", type=click.FloatRange(min=0.01), default=20.0, show_default=True)
@click.option("--seed", type=int, help="Seed of the damage; default: another one each time.")
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(folder: Path, minutes: float, seed: int | None, json_file: Path | None) -> None:
    """Damage files at random, and fail if a reader neither refuses nor accepts one."""
    seed = time.time_ns() % 2**32 if seed is None else seed
    with tempfile.TemporaryDirectory() as place:
        # The soak's small bundle, made in a process of its own, since it takes torch.
        command = [sys.executable, "-m", "benchmarks._soak_world", str(folder), place]
        subprocess.run(command, check=True)
        (work := Path(place) / "work").mkdir()
        chosen = targets(Bundle.open(Path(place) / "first.bundle"), work)
        report = fuzz(chosen, 60 * minutes, np.random.default_rng(seed))
    header = ("target", "refused", "accepted", "failed")
    click.echo(table(header, [[row[key] for key in header] for row in report["rows"]]))
    if json_file:
        write_json(json_file, {"seed": seed, "minutes": minutes, **report, "machine": machine()})
    for failure in report["failures"]:
        click.echo(f"error: {failure}", err=True)
    total = sum(row[key] for row in report["rows"] for key in header[1:])
    click.echo(f"\n{total:,} damaged files in {minutes:g} minutes, seed {seed}")
    sys.exit(bool(report["failures"]))


if __name__ == "__main__":
    main()
