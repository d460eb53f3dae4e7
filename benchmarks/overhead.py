"""Measure a session's overhead over bare ONNX Runtime on the same graphs and weights.

    python -m benchmarks.overhead [--samples 2000] [--json FILE]

The bare side binds the pixels to the same weight-free graph, runs it, and runs the head: what a
program that knows exactly one bundle would write, with no checks. Frames have the graph's size, so
that nothing is resized. One thread (a floor that does not jitter), interleaved in one run; "added"
is the median of the differences within a turn. The last column is what Python and NumPy allocate on
top during one `predict`, against the bytes of the frame: less means that it is not copied.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx.parser
import onnxruntime
from numpy.typing import NDArray

from benchmarks._models import make_model
from export.graphs.heads import head_graph, head_shapes
from runtime.benchmark.latency import machine, summary, timed
from runtime.bundles import bundle
from runtime.bundles.bundle import Bundle
from runtime.bundles.graphs import EncoderGraph, HeadGraph
from runtime.bundles.task import Task
from runtime.console import bytes_text, table, write_json
from runtime.memory.weights import Weights
from runtime.models import BaseModel, Preprocess, TaskInfo
from runtime.patch import SparseTensor
from runtime.sessions.session import Session
from runtime.storage.digest import tensors_sha256
from runtime.storage.files import sha256

TARGET = 150.0
TINY = """
<ir_version: 9, opset_import: ["" : 18]>
tiny (uint8[batch,224,224,3] pixels, float[3,8] weight) => (float[batch,8] features) {
  axes = Constant<value = int64[2] {1, 2}>()
  floats = Cast<to = 1>(pixels)
  mean = ReduceMean<keepdims = 0>(floats, axes)
  features = MatMul(mean, weight)
}
"""


def tiny_bundle(path: Path) -> Path:
    """Write a bundle whose graph does next to nothing, with two tasks."""
    graph = onnx.parser.parse_model(TINY).SerializeToString()
    base = {"weight": np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)}
    own = {"weight": np.eye(8, dtype=np.float32), "bias": np.zeros(8, np.float32)}
    head, spec, identity = head_graph("affine", own), Preprocess(224), tensors_sha256(base)
    tasks = [
        Task(
            info=TaskInfo(f"tiny-{number}", "random", "a", "b", tuple("abcdefgh")),
            method="random",
            resize=spec.resize,
            interpolation=spec.interpolation,
            base_sha256=identity,
            encoder=sha256(graph),
            tokens={},
            head=sha256(head),
            head_tensors=own,
            patch={"weight": SparseTensor(np.array([number], np.uint32), np.ones(1, np.float32))},
            record={},
        )
        for number in range(2)
    ]
    bundle.write(path, base=BaseModel("tiny", "none", identity), precision="fp32",
                 encoders=[EncoderGraph(graph, spec)], tensors=base,
                 heads=[HeadGraph("affine", head, head_shapes("affine", own))],
                 tasks=tasks, report={})  # fmt: skip
    return path


class Bare:
    """ONNX Runtime over the weights that a session holds, and nothing else.

    Other memory would be another floor: where its tensors lie decides what fits into the caches.
    """

    def __init__(self, content: Bundle, task: str, weights: Weights) -> None:
        read = content.task(task, weights.layout)
        self.head_tensors = dict(read.head_tensors)
        encoder, head = content.manifest.encoders[0], content.manifest.heads[0]
        self.encoder = self._open(content.graph(encoder.graph))
        self.head = self._open(content.graph(head.graph))
        self.binding = self.encoder.io_binding()
        for name, array in weights.views().items():
            value = onnxruntime.OrtValue.ortvalue_from_numpy(array)
            self.binding.bind_ortvalue_input(name, value)

    def run(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.binding.bind_cpu_input("pixels", pixels)
        self.binding.bind_output("features")
        self.encoder.run_with_iobinding(self.binding)
        features = self.binding.copy_outputs_to_cpu()[0]
        logits: NDArray[np.float32] = self.head.run(
            ["logits"], {"features": features, **self.head_tensors}
        )[0]
        return logits

    @staticmethod
    def _open(graph: bytes) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def allocated(call: Callable[[], object]) -> int:
    """Return the most bytes that a call holds at once through Python's and NumPy's allocators."""
    call()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak - before


def measure(name: str, path: Path, samples: int) -> dict[str, Any]:
    content = Bundle.open(path)
    task, other = content.tasks[:2]
    size = content.preprocess(task).size
    frame = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    pixels, draw = frame[None], np.random.default_rng(1)
    with Session.open(path, threads=1, blocked=False) as session:
        session.load(other)
        session.switch(task)
        bare = Bare(content, task, session._strategy.weights)
        if not np.array_equal(bare.run(pixels), session.infer(pixels)):
            raise click.ClickException("the bare run computes something else than the session")
        sides: dict[str, Callable[[], object]] = {
            "bare": lambda: bare.run(pixels),
            "infer": lambda: session.infer(pixels),
            "predict": lambda: session.predict(frame),
            "predict_task": lambda: session.predict(frame, task=task),
        }
        times: dict[str, list[float]] = {side: [] for side in sides}
        for number in range(samples + 20):
            for side in draw.permutation([*sides]).tolist():
                seconds = timed(sides[side])
                if number >= 20:
                    times[side].append(seconds)
        copied = allocated(lambda: session.predict(frame))
    floor = np.array(times["bare"])
    return {
        "bundle": name,
        "frame_bytes": frame.nbytes,
        "allocated": copied,
        **{side: summary(own) for side, own in times.items()},
        "added_us": {
            side: float(np.median(np.array(own) - floor)) * 1e6
            for side, own in times.items()
            if side != "bare"
        },
    }


@click.command()
@click.option("--folder", type=click.Path(path_type=Path), default=Path("artifacts/benchmarks"))
@click.option("--samples", type=click.IntRange(min=100), default=2000, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(folder: Path, samples: int, json_file: Path | None) -> None:
    """Measure the overhead of a session per frame."""
    demo = make_model("demo-rn32", folder, (0.005,), 2)
    tiny = tiny_bundle(folder / "tiny.bundle")
    rows = [measure("tiny", tiny, samples), measure("demo-rn32", demo.bundle, samples)]
    added = ("infer", "predict", "predict_task")
    header = (
        *("microseconds", "bare p50", "infer adds", "predict adds", "predict(task=) adds"),
        *("target", "predict p99", "bare p99", "allocated / frame"),
    )
    lines = [
        [
            r["bundle"],
            f"{1e3 * r['bare']['p50']:.0f}",
            *(f"{r['added_us'][side]:.0f}" for side in added),
            f"{TARGET:.0f}",
            *(f"{1e3 * r[side]['p99']:.0f}" for side in ("predict", "bare")),
            f"{bytes_text(r['allocated'])} / {bytes_text(r['frame_bytes'])}",
        ]
        for r in rows
    ]
    click.echo(table(header, lines))
    if json_file:
        write_json(json_file, {"rows": rows, "samples": samples, "machine": machine()})


if __name__ == "__main__":
    main()
