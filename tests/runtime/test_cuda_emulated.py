"""Everything of the CUDA runtime but the GPU: the tests in `cuda` over a driver that is ours."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
REASONS = {
    "needs onnxruntime-gpu",
    "needs a real GPU for ONNX Runtime's CUDA provider",
    "needs TensorRT or TensorRT-RTX",
    "needs a real GPU for TensorRT",
    "needs 12 GiB of a GPU's memory",
}


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """Compile the stand-in for NVIDIA's driver, and with it our kernels, for the host."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("needs a C++ compiler")
    library = tmp_path_factory.mktemp("driver") / "libcuda.so.1"
    command = [compiler, "-std=c++17", "-O1", "-Wall", "-Werror", "-shared", "-fPIC"]
    command += ["-fvisibility=hidden", f"-I{HERE / 'cuda'}", f"-I{ROOT / 'runtime/cuda/kernels'}"]
    command += [HERE / "cuda/driver.cpp", "-o", library, "-Wl,-soname,libcuda.so.1", "-ldl"]
    subprocess.run(command, check=True)
    return library


def process(path):
    """Return the name of the process that runs a file of tests: three share what starting takes."""
    if "interrupted" in path.stem:
        return "interrupted"
    return "engines" if path.stem.startswith(("test_trt", "test_backends")) else "device"


@pytest.mark.parametrize("name", ["device", "engines", "interrupted"])
def test_over_an_emulated_driver(driver, name):
    tests = [path for path in sorted((HERE / "cuda").glob("test_*.py")) if process(path) == name]
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *tests],
        env={**os.environ, "EMULATED_CUDA": str(driver)},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stdout + found.stderr


def test_as_on_a_gpu_what_can_run_passes_and_the_rest_is_left_out_by_name(driver):
    """ONNX Runtime's CUDA provider and TensorRT need kernels of their own."""
    env = {name: value for name, value in os.environ.items() if name != "EMULATED_CUDA"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", "gpu", "-rs"]
    found = subprocess.run(
        [*command, HERE / "cuda", HERE / "test_devices.py", HERE / "test_session.py"],
        env={**env, "LD_LIBRARY_PATH": str(driver.parent)},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    reasons = set(re.findall(r"^SKIPPED .*?: (.*)$", found.stdout, re.MULTILINE))
    assert reasons <= REASONS and len(reasons) > 1, found.stdout
