"""Measure the host's work for a frame and a switch on a GPU, over the tests' emulated driver.

    python -m benchmarks.host_cost [--samples 2000] [--json FILE]

TensorRT's stand-in and the kernels do nothing here, so what is left is Python, the driver's calls
and NumPy's copies: processor time, the median of seven rounds. "encoder and head" takes pixels that
lie on the device, and is compared with its target, as a switch is; "session" adds locks, checks,
the resize and the prediction. Every run replays a CUDA graph. Needs a C++ compiler and no GPU.
"""

from __future__ import annotations

import ctypes
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import click
import numpy as np

from runtime.benchmark.latency import machine
from runtime.console import table, write_json

ROOT = Path(__file__).parents[1]
TARGETS = {"encoder and head": 60.0, "switch": 10.0}
"""Microseconds."""


def load_driver(folder: Path) -> None:
    """Compile the emulated driver and load it as the machine's."""
    library, tests = folder / "libcuda.so.1", ROOT / "tests/runtime/cuda"
    command = ["g++", "-std=c++17", "-O2", "-shared", "-fPIC", "-fvisibility=hidden"]
    command += [f"-I{tests}", f"-I{ROOT / 'runtime/cuda/kernels'}", str(tests / "driver.cpp")]
    command += ["-o", str(library), "-Wl,-soname,libcuda.so.1", "-ldl"]
    subprocess.run(command, check=True)
    os.environ |= {"EMULATED_CUDA": str(library), "EMULATED_IDLE": "1"}
    ctypes.CDLL(str(library))


def cost(work: Callable[[], object], samples: int, wait: Callable[[], None]) -> float:
    """Return the processor time of a call in microseconds."""
    rounds = []
    for _ in range(7):
        start = time.process_time()
        for _ in range(samples):
            work()
        rounds.append((time.process_time() - start) / samples * 1e6)
        wait()
    return statistics.median(rounds)


def measure(folder: Path, samples: int) -> dict[str, float]:
    """Return the costs by kind of work."""
    load_driver(folder)
    # Now that there is a driver; the stand-in takes TensorRT's place before anything asks for it.
    from runtime.backends.trt.graphs import graphs_of
    from runtime.backends.trt.profile import PROFILES
    from runtime.backends.trt.store import store_of
    from runtime.bundles.bundle import Bundle
    from runtime.cuda.device import CudaDevice
    from runtime.cuda.tensors import Tensors
    from runtime.sessions.session import Session
    from tests.runtime.conftest import SIZE, _make_world
    from tests.runtime.cuda import stand_in
    from tests.runtime.cuda.test_trt_session import install

    sys.modules["tensorrt"] = stand_in
    stand_in.IExecutionContext.execute_async_v3 = lambda self, stream: True
    path = folder / "toy.bundle"
    _make_world(path)
    with closing(CudaDevice()) as device:
        for graph in graphs_of(Bundle.open(path)):
            install(store_of(path, None), device, graph, PROFILES["orin"])
    frame = np.zeros((20, 24, 3), np.uint8)
    with Session.open(path, backend="trt", device="cuda") as session:
        for task in session.tasks:
            session.predict(frame, task)
        strategy, loaded = session._strategy, [session._load(task) for task in ("a-b", "a-c")]
        device = strategy.backend.memory.device
        pixels = Tensors(device, {"pixels": np.zeros((1, SIZE, SIZE, 3), np.uint8)})
        engine = strategy.encoders[loaded[0].encoder].engine
        head = strategy._heads[loaded[0].head]
        tensors = loaded[0].head_tensors.handles

        def switch() -> None:
            loaded.reverse()
            strategy.switch(loaded[0])

        works: dict[str, Callable[[], object]] = {
            "encoder and head": lambda: engine.run_with_head(pixels.handles, head, tensors),
            "session's frame": lambda: session.predict(frame),
            "switch": switch,
        }
        return {
            name: cost(work, 50 if name == "switch" else samples, device.synchronize)
            for name, work in works.items()
        }


@click.command()
@click.option("--samples", default=2000, show_default=True, help="Calls in each round.")
@click.option("--json", "path", type=click.Path(path_type=Path), help="File to write.")
def main(samples: int, path: Path | None) -> None:
    """Measure the host's work for a frame and for a switch."""
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), samples)
    rows = [(name, f"{us:.1f}", TARGETS.get(name, "")) for name, us in found.items()]
    click.echo(table(("host cost", "us", "target us"), rows))
    if path is not None:
        write_json(path, {"machine": machine(), "targets_us": TARGETS, "host_us": found})


if __name__ == "__main__":
    main()
