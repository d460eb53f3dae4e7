"""A switch at full size on the GPU, with cuda-bindings alone: no PyTorch, ONNX Runtime or TensorRT.

    python -m benchmarks.gpu.probe [--samples 1000] [--json FILE]

Patches of 0.5 % over tensors of ViT-B/16's sizes in fp16. A switch is timed until the caller goes
on, until the device is done, and between two events on the device; beside them stand the target of
this GPU and the bound of its memory. What the weights are afterwards is compared bit for bit. With
`--json` the file is written again whenever something more is known.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.gpu.targets import switch_bound, switch_target
from runtime.benchmark.latency import summary
from runtime.console import UdaGroup, write_json
from runtime.cuda.arena import Arena
from runtime.cuda.device import CudaDevice
from runtime.cuda.driver import call
from runtime.patch import Patch, SparseTensor, merge

SHAPES = [(768, 768)] * 48 + [(3072, 768)] * 12 + [(768, 3072)] * 12 + [(197, 768), (768, 768)]
"""Shapes of the tensors of ViT-B/16's encoder, 86 million entries."""
DENSITY, PATCHES, WARMUP = 0.005, 4, 100
COPY = 1 << 30
"""Most bytes of the copy that measures the memory's bandwidth."""


def base_tensors(seed: int = 0) -> dict[str, NDArray[np.float16]]:
    """Return random weights by name."""
    draw = np.random.default_rng(seed)
    return {
        f"t{number}": draw.standard_normal(shape, np.float32).astype(np.float16)
        for number, shape in enumerate(SHAPES)
    }


def random_patch(tensors: dict[str, NDArray[np.float16]], seed: int) -> Patch:
    """Return a patch of `DENSITY` of all entries, drawn without repetition."""
    draw, patch = np.random.default_rng(seed), {}
    for name, array in tensors.items():
        where = np.flatnonzero(draw.random(array.size, np.float32) < DENSITY).astype(np.uint32)
        values = draw.standard_normal(where.size, np.float32).astype(np.float16)
        patch[name] = SparseTensor(where, values)
    return patch


def copy_bandwidth(device: CudaDevice) -> float:
    """Return bytes per second, read and written, of the fastest of ten large copies."""
    nbytes = min(COPY, device.free_bytes() // 4)  # a Jetson may have no more
    source, target = device.allocate(nbytes), device.allocate(nbytes)
    copy = partial(device.copy, source.address, target.address, nbytes)
    found = [on_device(device, copy) for _ in range(10)]
    source.close()
    target.close()
    return 2 * nbytes / min(found)


def on_device(device: CudaDevice, work: Callable[[], None]) -> float:
    """Return the seconds between two events around what `work` puts onto the stream."""
    device.synchronize()
    events = [call("cuEventCreate", 0) for _ in range(2)]
    call("cuEventRecord", events[0], device.stream)
    work()
    call("cuEventRecord", events[1], device.stream)
    device.synchronize()
    seconds = float(call("cuEventElapsedTime", *events)) / 1e3
    for event in events:
        call("cuEventDestroy", event)
    return seconds


def equal(arena: Arena, want: dict[str, NDArray[Any]]) -> bool:
    """Tell whether the weights on the device are these, bit for bit."""
    return all(arena.read(name).tobytes() == array.tobytes() for name, array in want.items())


def measure(device: CudaDevice, samples: int) -> Iterator[dict[str, Any]]:
    """Yield times of switching, and whether every bit was right, as soon as they are known."""
    free = device.free_bytes()
    tensors = base_tensors()
    arena = Arena(device, tensors, lambda: tensors)
    drawn = [random_patch(tensors, seed) for seed in range(PATCHES)]
    start = time.perf_counter()
    ready = [arena.prepare(patch) for patch in drawn]
    prepared = (time.perf_counter() - start) / PATCHES
    entries = sum(sparse.indices.size for sparse in drawn[0].values())
    parameters = sum(array.size for array in tensors.values())
    yield {
        "entries": entries,
        "parameters": parameters,
        "prepare_ms": 1e3 * prepared,
        "target_ms": switch_target(device.name),
    }
    called, done = [], []
    for number in range(samples + WARMUP):
        device.synchronize()
        begin = time.perf_counter()
        arena.apply(ready[number % PATCHES])
        went_on = time.perf_counter()
        device.synchronize()
        finished = time.perf_counter()
        if number >= WARMUP:
            called.append(went_on - begin)
            done.append(finished - begin)
    yield {"called": summary(called), "done": summary(done)}
    applying = [partial(arena.apply, ready[number % PATCHES]) for number in range(samples)]
    yield {"on_device": summary([on_device(device, each) for each in applying])}
    arena.apply(ready[0])
    merged = equal(arena, merge(tensors, drawn[0]))
    arena.apply(None)
    restored = equal(arena, tensors)
    yield {"merged_bit_for_bit": merged, "restored_bit_for_bit": restored}
    for patch in filter(None, ready):
        patch.close()
    arena.close()
    yield {"bytes_not_freed": free - device.free_bytes()}
    bandwidth = copy_bandwidth(device)
    yield {"bandwidth": bandwidth, "bound_ms": switch_bound(entries, parameters, bandwidth)}


@click.group(cls=UdaGroup, invoke_without_command=True)
@click.option("--samples", type=click.IntRange(min=2), default=1000, show_default=True)
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path))
def main(samples: int, json_file: Path | None) -> None:
    """Measure a switch at full size."""
    device = CudaDevice()
    found: dict[str, Any] = {
        "gpu": device.name,
        "capability": device.capability,
        "driver": device.driver,
        "integrated": device.integrated,
    }
    try:
        for more in measure(device, samples):
            found |= more
            if json_file:
                write_json(json_file, found)
    finally:
        device.close()
    click.echo(json.dumps(found, indent=1))
    if not (found["merged_bit_for_bit"] and found["restored_bit_for_bit"]):
        raise click.ClickException("the weights on the device differ from NumPy's")


if __name__ == "__main__":
    main()
