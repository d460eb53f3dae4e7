"""The parts of `make gpu` and their steps, with their requirements."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path

DEVICE = ("cuda.bindings", "click", "numpy", "onnx", "PIL", "pytest", "safetensors")
TRAINING = ("torch", "torchvision", "open_clip", "yaml", "rich", "pytest", "onnx", "onnxruntime")
RUNTIME = ("cuda.bindings", "click", "numpy", "PIL", "safetensors")
TRT = "tensorrt or tensorrt_rtx"
CUDA = "tests/runtime/cuda"
BUNDLE = "BUNDLE"
"""Stands for the bundle that is given, in a step's options."""


@dataclass(frozen=True)
class Step:
    """Tests, or a benchmark, that need the same packages."""

    needs: tuple[str, ...]
    """Modules to import, each with its alternatives."""
    tests: tuple[str, ...] = ()
    benchmark: tuple[str, ...] = ()
    """Module and options; it writes `gpu-<part>-<rows>.json` beside the part's own file."""
    rehearsal: tuple[str, ...] = ()
    """Module and options of the benchmark where there is only an emulated driver."""
    rows: str = "rows"
    computes: bool = True
    """Whether it needs a GPU that computes; without one its tests are collected alone."""
    under: tuple[str, ...] = ()
    """Program that runs Python, with its options."""

    @property
    def name(self) -> str:
        """Name of the step: its tests or benchmark, and the program that runs it."""
        return " ".join((*self.under, *self.tests)) or " ".join(self.benchmark)


BENCH = ("runtime.cli", "bench", BUNDLE, "--samples", "50")
SANITIZER = ("compute-sanitizer", "--error-exitcode", "9", "--target-processes", "application-only")
# A call that the driver refuses is not a finding: cuda-bindings asks it for functions that only
# newer ones have, and some tests let it refuse.
SANITIZER += ("--report-api-errors", "no")
PARTS = {
    "kernels": (
        Step(
            DEVICE,
            tuple(f"{CUDA}/test_{n}.py" for n in ("arena", "device", "device_resize", "lifetime")),
            computes=False,
        ),
        Step(
            ("cuda.bindings", "click", "numpy"),
            benchmark=("benchmarks.gpu.probe",),
            rehearsal=("benchmarks.gpu.probe", "--samples", "2"),
        ),
        *(
            Step(DEVICE, (f"{CUDA}/test_arena.py",), under=(*SANITIZER, "--tool", tool))
            for tool in ("memcheck", "racecheck")
        ),
    ),
    "session": (
        Step(
            (*DEVICE, "onnxruntime"),
            (
                *(
                    f"{CUDA}/test_{n}.py"
                    for n in ("device_session", "device_interrupted", "ort_features", "ort_graphs")
                ),
                *(f"tests/runtime/test_{n}.py" for n in ("devices", "session")),
            ),
        ),
        Step((*DEVICE, *TRAINING), ("tests/export/test_gpu_parity.py",)),
    ),
    "training": (
        Step(TRAINING, ("tests/adapt/test_gpu_training.py",)),
        Step(
            (*TRAINING, "click", "numpy"),
            benchmark=("benchmarks.training", "--folder", "artifacts/benchmarks")
            + ("--device", "cuda", "--case", "vit32", "--no-memory"),
            rehearsal=("benchmarks.training", "--folder", "artifacts/benchmarks")
            + ("--case", "small", "--no-memory"),
        ),
    ),
    "tensorrt": (
        Step(
            (*DEVICE, "onnxruntime", TRT),
            (
                f"{CUDA}/test_backends.py",
                *(
                    f"{CUDA}/test_trt_{n}.py"
                    for n in ("builds", "features", "graphs", "interrupted", "session", "threads")
                ),
            ),
        ),
        Step((*DEVICE, *TRAINING, "torch_tensorrt"), ("tests/export/test_torch_tensorrt.py",)),
    ),
    "bench": (
        Step(
            (*DEVICE, *TRAINING),
            benchmark=("benchmarks.gpu", "--model", "ViT-B-16", "--batch", "1", "--batch", "8")
            + ("--samples", "256"),
            rehearsal=("benchmarks.gpu", "--model", "ViT-B-32", "--batch", "1", "--samples", "2")
            + ("--device", "cpu", "--no-compile"),
        ),
        *(
            Step(
                (*RUNTIME, library),
                benchmark=(*BENCH, "--device", "cuda", "--backend", backend),
                rehearsal=BENCH,
                rows=backend,
            )
            for backend, library in (("ort", "onnxruntime"), ("trt", TRT))
        ),
    ),
}
DEVICE_PARTS = ("kernels", "session", "tensorrt", "bench")
"""Parts that have steps without PyTorch."""


def missing(step: Step, without_torch: bool = False, bundle: Path | None = None) -> str | None:
    """Return why a step cannot run here, or None.

    Args:
        step: Step to look at.
        without_torch: Whether to leave out what needs PyTorch.
        bundle: Bundle to measure, or None.
    """
    if without_torch and "torch" in step.needs:
        return "needs torch, which a device does without"
    if BUNDLE in step.benchmark and bundle is None:
        return "needs a bundle; pass BUNDLE=FOLDER to make, or --bundle FOLDER"
    absent = [need for need in step.needs if not any(map(_installed, need.split(" or ")))]
    absent += [program for program in step.under[:1] if shutil.which(program) is None]
    return f"needs {', '.join(absent)}; not installed" if absent else None


def find_gpu() -> tuple[str | None, str]:
    """Return the name of the first GPU, or None and why there is none."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None, "NVIDIA's driver (libcuda.so.1) is not installed"
    count, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    for call, arguments in (
        ("cuInit", (0,)),
        ("cuDeviceGetCount", (ctypes.byref(count),)),
        ("cuDeviceGetName", (name, len(name), 0)),
    ):
        if status := getattr(driver, call)(*arguments):
            return None, f"{call} of NVIDIA's driver failed with {status}; check nvidia-smi"
    return name.value.decode(), ""


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # its parent is missing, or it was set to None
        return False
