"""Rehearse a visit to a GPU machine here: its three calls, its Python, and what is carried there.

    python -m benchmarks.gpu.rehearsal FOLDER --python python3.12 [--there WHEEL ...]

FOLDER gets a clean clone, an environment with the packages that machine has (`--there`), the
tests' driver as `libcuda.so.1`, and the folders of `benchmarks.gpu.kit`. Our own kernels run; of
what needs a GPU that computes, tests are collected and benchmarks run small on the CPU. Ends with 1
if a call fails or takes longer than it may.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.gpu.visit import CALLS

ROOT = Path(__file__).parents[2]
THERE = (
    "torch==2.11.0 torchvision==0.26.0 numpy==2.5.2 onnx==1.23.1 onnxruntime==1.30.0 "
    "safetensors==0.8.0 cuda-bindings click pytest pytest-xdist hypothesis pillow pyyaml rich "
    "huggingface-hub regex timm tqdm"
).split()
"""Packages on the machine of the first visit."""
KITS = {1: ".gpu1", 2: ".gpu2"}
"""Folder that each call carries."""


def emulated_driver(repository: Path, folder: Path) -> None:
    """Compile the tests' driver into a folder, with our kernels for the host."""
    tests, library = repository / "tests/runtime/cuda", folder / "libcuda.so.1"
    folder.mkdir(parents=True, exist_ok=True)
    command = ["g++", "-std=c++17", "-O1", "-shared", "-fPIC", "-fvisibility=hidden", f"-I{tests}"]
    command += [f"-I{repository / 'runtime/cuda/kernels'}", str(tests / "driver.cpp")]
    run([*command, "-o", str(library), "-Wl,-soname,libcuda.so.1", "-ldl"], repository)


def run(command: list[str], folder: Path, **env: str) -> int:
    """Run a command and return its exit status."""
    print("$", *command, flush=True)
    return subprocess.run(command, cwd=folder, env={**os.environ, **env}).returncode


def prepare(folder: Path, python: str, there: list[str]) -> tuple[Path, Path]:
    """Return a clean clone and the Python of an environment like that machine's."""
    repository, venv = folder / "repository", folder / "venv"
    steps = [
        ["git", "clone", "--quiet", str(ROOT), str(repository)],
        [python, "-m", "venv", str(venv)],
        [str(venv / "bin/python"), "-m", "pip", "install", "-q", *there],
    ]
    folder.mkdir(parents=True, exist_ok=True)
    for step in steps:
        if run(step, folder):
            raise SystemExit(f"error: {' '.join(step[:4])} failed")
    emulated_driver(repository, folder / "lib")
    return repository, venv / "bin/python"


def main() -> int:
    """Rehearse the calls; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--python", default="python3.12", help="interpreter of that version")
    parser.add_argument("--there", nargs="+", default=THERE, metavar="WHEEL")
    given = parser.parse_args()
    folder = given.folder.resolve()
    repository, python = prepare(folder, given.python, given.there)
    version = given.python.rpartition("python")[2] or "3.12"
    if run([sys.executable, "-m", "benchmarks.gpu.kit", ".gpu", "--python", version], repository):
        return 1
    rows = []
    for number, call in CALLS.items():
        command = [str(python), "-m", "benchmarks.gpu.visit", str(number), "--rehearsal"]
        command += ["--folder", str(folder / "out"), "--site", str(folder / "site")]
        command += ["--kit", KITS[number]] if number in KITS else []
        start = time.monotonic()
        failed = run(command, repository, LD_LIBRARY_PATH=str(folder / "lib"))
        seconds = time.monotonic() - start
        passed = not failed and seconds <= call.seconds
        rows.append({"call": number, "passed": passed, "seconds": round(seconds, 1)})
        rows[-1] |= {"limit": call.seconds, "parts": list(call.parts)}
    text = json.dumps(rows, indent=1)
    (folder / "out" / "rehearsal.json").write_text(text + "\n")
    print(text)
    return 0 if all(row["passed"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
