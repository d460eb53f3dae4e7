"""Say which packages the GPU tests and benchmarks lack here, by the names of their wheels.

    python -m benchmarks.gpu_needs

Ends with 1 if one is missing. Nothing is installed: the machine may have no network.
"""

from __future__ import annotations

import importlib.util
import sys

NEEDED = {
    "click": "click",
    "cuda.bindings": "cuda-bindings",
    "hypothesis": "hypothesis",
    "numpy": "numpy",
    "onnx": "onnx",
    "onnxruntime": "onnxruntime-gpu",
    "onnxscript": "onnxscript",
    "open_clip": "open_clip_torch",
    "PIL": "pillow",
    "pytest": "pytest",
    "safetensors": "safetensors",
    "torch": "torch (a build with CUDA)",
    "torchvision": "torchvision",
}
EITHER = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}


def there(name: str) -> bool:
    """Tell whether a module can be found, without importing what is slow."""
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # its package is missing
        return False


def main() -> None:
    missing = [wheel for name, wheel in NEEDED.items() if not there(name)]
    if missing:
        print(f"missing here: {', '.join(missing)}; put these wheels beside each other and run:")
        names = " ".join(wheel.split()[0] for wheel in missing)
        print(f"  pip install --no-index --find-links FOLDER {names}")
        sys.exit(1)
    if not any(there(name) for name in EITHER):
        print(f"no TensorRT ({' or '.join(EITHER.values())}): its rows will be left out")
    print("every package that is needed is here")


if __name__ == "__main__":
    main()
