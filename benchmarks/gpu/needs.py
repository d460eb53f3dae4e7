"""Say what the GPU tests and benchmarks lack here, and how to bring it without a network.

    python -m benchmarks.gpu.needs

Ends with 1 if something is missing. Nothing is installed. What it prints is complete, the needs of
needs as well, so that one trip to a machine with a network is enough. PyTorch for CUDA is taken for
granted: it brings NumPy, Pillow, NVRTC and CUDA's libraries.
"""

from __future__ import annotations

import ctypes
import importlib.util
import platform
import re
import shlex
import sys
from importlib import metadata

WANTED = (
    "click>=8.1",
    "cuda-bindings>=13",
    "hypothesis>=6.100",
    "numpy>=1.26",
    "onnx>=1.18",
    "onnxruntime-gpu>=1.27",
    "open_clip_torch>=3.3",
    "pillow>=11",
    "pytest>=8.3",
    "pyyaml>=6",
    "rich>=13",
    "safetensors>=0.6.1",
)
CUDA_12 = {
    "cuda-bindings>=13": "cuda-bindings>=12.9.2,<13",
    "onnxruntime-gpu>=1.27": "onnxruntime-gpu>=1.23,<1.27",
}
"""Wheels instead of those above where PyTorch is for CUDA 12."""
NEEDS = {
    "anyio": ("idna",),
    "cuda-bindings": ("cuda-pathfinder",),
    "ftfy": ("wcwidth",),
    "httpcore2": ("h11", "truststore"),
    "httpx2": ("anyio", "httpcore2", "idna", "truststore"),
    "huggingface-hub": ("click", "hf-xet", "httpx2", "packaging", "pyyaml", "tqdm"),
    "hypothesis": ("sortedcontainers",),
    "markdown-it-py": ("mdurl",),
    "onnx": ("ml-dtypes", "protobuf"),
    "onnxruntime-gpu": ("flatbuffers", "packaging", "protobuf"),
    "open_clip_torch": ("ftfy", "huggingface-hub", "regex", "safetensors", "timm", "tqdm"),
    "pytest": ("iniconfig", "packaging", "pluggy", "pygments"),
    "rich": ("markdown-it-py", "pygments"),
    "timm": ("huggingface-hub", "pyyaml", "safetensors"),
}
"""Dependencies of wheels that PyTorch does not have as well."""
TENSORRT = ("tensorrt", "tensorrt_rtx")
RTX = ("tensorrt-rtx-cu13-bindings==1.7.*", "tensorrt-rtx-cu13-libs==1.7.*")


def lacking(cuda: str | None) -> list[str]:
    """Return the wheels that are missing here or too old, with their needs that are missing.

    Args:
        cuda: Version of CUDA that PyTorch was built for.
    """
    twelve = cuda is not None and _numbers(cuda) < (13,)
    wanted = {_name(wheel): wheel for wheel in WANTED}
    if twelve:
        wanted |= {_name(wheel): CUDA_12[wheel] for wheel in CUDA_12}
    found: dict[str, str] = {}
    todo = list(wanted)
    while todo:
        name = todo.pop(0)
        wheel = wanted.get(name, name)
        if name not in found and not fits(wheel):
            found[name] = wheel
            todo += NEEDS.get(name, ())
    return list(found.values())


def fits(wheel: str) -> bool:
    """Tell whether a package is here, within the versions that are wanted."""
    try:
        found = _numbers(metadata.version(_name(wheel)))
    except metadata.PackageNotFoundError:
        return False
    low, high = (re.search(f"{sign}([0-9.]+)", wheel) for sign in (">=", "<"))
    return not (low and found < _numbers(low[1])) and not (high and found >= _numbers(high[1]))


def download(wheels: list[str]) -> str:
    """Return the command that downloads wheels for this machine on any other one."""
    machine, minor = platform.machine(), platform.libc_ver()[1].rpartition(".")[2] or "28"
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return (
        f"pip download --no-deps --only-binary=:all: --implementation cp --python-version {python} "
        f"--platform=manylinux_2_{{5..{minor}}}_{machine} "
        f"--platform=manylinux{{1,2010,2014}}_{machine} -d wheels {shlex.join(wheels)}"
    )


def unseen(version: str, cuda: str | None) -> str:
    """Return why PyTorch sees no GPU here, and what to do.

    Args:
        version: Version of PyTorch.
        cuda: Version of CUDA that it was built for.
    """
    if cuda is None:
        return f"torch {version} is not built for CUDA; take one that is"
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return (
            f"torch {version} finds no NVIDIA driver (libcuda.so.1) on this machine; install it, "
            "then see whether nvidia-smi lists the GPU"
        )
    return (
        f"torch {version} sees no GPU; see whether nvidia-smi lists one, with a driver for CUDA "
        f"{cuda} or later, and what CUDA_VISIBLE_DEVICES says"
    )


def main() -> None:
    try:
        import torch
        import torchvision  # noqa: F401

        cuda, sees = torch.version.cuda, torch.cuda.is_available()
    except ImportError as error:
        cuda, sees = None, False
        print(f"cannot import PyTorch: {error}; install torch and torchvision, built for CUDA")
    else:
        if not sees:
            print(unseen(torch.__version__, cuda))
    wheels = lacking(cuda)
    tensorrt = any(map(importlib.util.find_spec, TENSORRT))
    if not tensorrt:
        print(f"no TensorRT ({' or '.join(TENSORRT)}): its rows will be left out")
    if wheels:
        print(f"missing here: {', '.join(wheels)}")
        print("in bash on a machine with a network:")
        print(f"  {download(wheels)}")
        if not tensorrt:
            print("and for TensorRT-RTX, if it is wanted (100 MB):")
            print(f"  {download(list(RTX))}")
            print("  pip wheel --no-deps -w wheels 'tensorrt-rtx-cu13==1.7.*'")
        print("then here, with the folder wheels brought along:")
        python = shlex.quote(sys.orig_argv[0])  # by the name that it was called by
        print(f"  {python} -m pip install --no-index --no-deps --target site wheels/*.whl")
        print("  export PYTHONPATH=$PWD/site")
    if wheels or not sees:
        sys.exit(1)
    print("every package that is needed is here")


def _name(wheel: str) -> str:
    return re.split("[<>=]", wheel)[0]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version.split("+")[0])))


if __name__ == "__main__":
    main()
