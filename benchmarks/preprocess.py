"""Compare `preprocess` with other ways from a frame to 224 x 224 pixels.

    python -m benchmarks.preprocess [--samples 40] [--json FILE]

All variants of a case run interleaved, one core each. Milliseconds are wall time; `cpu` is the
median processor time, which a busy machine disturbs less, and `faster` the median of its ratios.
Differences are to plain Pillow, of 255, for a photograph (scikit-learn's, enlarged to the frame,
with grain) and for noise.
"""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_sample_image

from runtime.benchmark.latency import machine, summary
from runtime.console import table, write_json
from runtime.frames.filters import make_axis
from runtime.frames.preprocess import preprocess, read_image
from runtime.models import Preprocess

SIZES = ((1080, 1920), (720, 1280), (480, 640), (240, 320))
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
PRODUCT = 1 << 18
Pixels = NDArray[np.uint8]
Variant = Callable[[Pixels], Pixels]


def photograph(height: int, width: int) -> Pixels:
    photo = Image.fromarray(load_sample_image("china.jpg"))
    enlarged = np.asarray(photo.resize((width, height), Image.Resampling.LANCZOS), np.float32)
    grain = np.random.default_rng(0).normal(0, 4, enlarged.shape)
    return np.clip(enlarged + grain + 0.5, 0, 255).astype(np.uint8)


class Ways:
    """The variants, for frames of one size."""

    def __init__(self, height: int, width: int, spec: Preprocess) -> None:
        self.spec, size = spec, spec.size
        self.target = (size, size)
        if spec.resize == "crop":
            short = min(height, width)
            self.target = (size * width // short, size * height // short)
        self.left, self.top = (round((side - size) / 2) for side in self.target)
        self.filter = FILTERS[spec.interpolation]
        columns = slice(self.left, self.left + size)
        rows = slice(self.top, self.top + size)
        self.columns = make_axis(width, self.target[0], columns, spec.interpolation, channels=3)
        self.rows = make_axis(height, self.target[1], rows, spec.interpolation)

    def cut(self, image: Image.Image) -> Pixels:
        size = self.spec.size
        return np.asarray(image)[self.top : self.top + size, self.left : self.left + size]

    def plain(self, frame: Pixels) -> Pixels:
        return self.cut(Image.fromarray(frame).resize(self.target, self.filter))

    def ours(self, frame: Pixels) -> Pixels:
        return preprocess(frame, self.spec)

    def gap(self, frame: Pixels) -> Pixels:
        return preprocess(frame, self.spec, reducing_gap=2.0)

    def four_bands(self, frame: Pixels) -> Pixels:
        height, width, _ = frame.shape
        padded = np.empty((height, width, 4), np.uint8)
        padded[..., :3] = frame
        image = Image.frombuffer("RGBX", (width, height), padded, "raw", "RGBX", 0, 1)
        return self.cut(image.resize(self.target, self.filter))[..., :3]

    def band_by_band(self, frame: Pixels) -> Pixels:
        bands = (Image.fromarray(np.ascontiguousarray(frame[..., i])) for i in range(3))
        return np.stack([self.cut(b.resize(self.target, self.filter)) for b in bands], -1)

    def cut_first(self, frame: Pixels) -> Pixels:
        """Pillow takes the box as float32, so its weights are not quite those of the whole."""
        (y, x), size = (self.rows.source, self.columns.source), self.spec.size
        scale = (frame.shape[1] / self.target[0], frame.shape[0] / self.target[1])
        box = (
            self.left * scale[0] - x.start,
            self.top * scale[1] - y.start,
            (self.left + size) * scale[0] - x.start,
            (self.top + size) * scale[1] - y.start,
        )
        image = Image.fromarray(np.ascontiguousarray(frame[y, x]))
        return np.asarray(image.resize((size, size), self.filter, box=box))

    def unrounded(self, frame: Pixels) -> Pixels:
        """Two products without rounding between them, columns first: fewer multiplications."""
        source = frame[self.rows.source, self.columns.source]
        width = 3 * source.shape[1]
        middle = np.empty((self.spec.size, width), np.float32)
        for block in self.rows.blocks:
            part = source[block.source].astype(np.float32).reshape(-1, width)
            strip = PRODUCT // block.matrix.size
            for begin in range(0, width, strip):
                here = slice(begin, begin + strip)
                np.matmul(block.matrix, part[:, here], out=middle[block.out, here])
        out = np.empty((self.spec.size, 3 * self.spec.size), np.float32)
        for block in self.columns.blocks:
            np.matmul(middle[:, block.source], block.matrix, out=out[:, block.out])
        out = np.clip(np.floor(out + np.float32(0.5)), 0, 255)
        return out.reshape(self.spec.size, self.spec.size, 3).astype(np.uint8)

    def variants(self) -> dict[str, Variant]:
        found = {
            "Pillow": self.plain,
            "preprocess": self.ours,
            "Pillow, 4 bands": self.four_bands,
            "Pillow, band by band": self.band_by_band,
            "products, unrounded between": self.unrounded,
            "reducing_gap=2": self.gap,
        }
        cut_first = {"Pillow, cut first": self.cut_first}
        return found | (cut_first if self.spec.resize == "crop" else {})


def race(
    calls: dict[str, Callable[[], Any]], samples: int
) -> dict[str, tuple[list[float], list[float]]]:
    """Time all, interleaved, each time in another order; return wall and CPU seconds."""
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in calls}
    names = list(calls)
    for _ in range(3):
        for call in calls.values():
            call()
    for number in range(samples):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            wall, cpu = time.perf_counter(), time.process_time()
            calls[name]()
            times[name][1].append(time.process_time() - cpu)
            times[name][0].append(time.perf_counter() - wall)
    return times


def rows_of(
    case: str, times: dict[str, Any], differences: dict[str, list[NDArray[np.int64]]]
) -> list[dict[str, Any]]:
    base = times[next(iter(times))][1]
    rows = []
    for name, (wall, cpu) in times.items():
        ratio = float(np.median(np.array(base) / np.array(cpu)))
        found = {"case": case, "variant": name, **summary(wall), "times_faster": ratio}
        found["cpu"] = float(np.median(cpu)) * 1e3
        found["max"] = [int(part.max()) for part in differences[name]]
        found["mean"] = [float(part.mean()) for part in differences[name]]
        rows.append(found)
    return rows


def frames(samples: int) -> list[dict[str, Any]]:
    rows = []
    for height, width in SIZES:
        noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        photo = photograph(height, width)
        for resize in ("squash", "crop"):
            for name in FILTERS:
                ways = Ways(height, width, Preprocess(224, resize, name))  # type: ignore[arg-type]
                calls = ways.variants()
                times = race({key: partial(call, photo) for key, call in calls.items()}, samples)
                differences = {
                    key: [abs(call(f).astype(int) - ways.plain(f)) for f in (photo, noise)]
                    for key, call in calls.items()
                }
                rows += rows_of(f"{width}x{height} {resize} {name}", times, differences)
    return rows


def decoded(path: Path, draft: int | None, spec: Preprocess) -> Pixels:
    return preprocess(read_image(path, draft=draft), spec)


def files(samples: int) -> list[dict[str, Any]]:
    """A JPEG file of a full frame, decoded whole and as a draft."""
    rows, spec = [], Preprocess(224)
    for height, width in SIZES[:2]:
        with tempfile.TemporaryDirectory() as folder:
            calls: dict[str, Callable[[], Pixels]] = {}
            stream = io.BytesIO()
            Image.fromarray(photograph(height, width)).save(stream, "JPEG", quality=90)
            path = Path(folder, "frame.jpg")
            path.write_bytes(stream.getvalue())
            for name, draft in {"whole": None, "draft=448": 448, "draft=224": 224}.items():
                calls[name] = partial(decoded, path, draft, spec)
            times = race(calls, samples)
            differences = {
                key: [abs(call().astype(int) - calls["whole"]())] for key, call in calls.items()
            }
            rows += rows_of(f"{width}x{height} JPEG file", times, differences)
    return rows


@click.command()
@click.option("--samples", default=40, show_default=True, help="Timed calls per variant and case.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="Write the figures here.")
def main(samples: int, path: Path | None) -> None:
    """Measure every way from a frame to the pixels a graph takes."""
    rows = frames(samples) + files(samples)
    header = ["case, variant", "p50 ms", "p99 ms", "cpu ms", "faster", "max photo, noise", "mean"]
    cells: list[list[object]] = []
    for case in dict.fromkeys(row["case"] for row in rows):
        cells.append([case, *[""] * 6])
        for row in (row for row in rows if row["case"] == case):
            times = [f"{row[key]:.2f}" for key in ("p50", "p99", "cpu")]
            found = [
                ", ".join(f"{v:{f}}" for v in row[k]) for k, f in (("max", "d"), ("mean", ".3f"))
            ]
            cells.append([f"  {row['variant']}", *times, f"{row['times_faster']:.2f} x", *found])
    click.echo(table(header, cells))
    if path:
        write_json(path, {"machine": machine(), "rows": rows})


if __name__ == "__main__":
    main()
