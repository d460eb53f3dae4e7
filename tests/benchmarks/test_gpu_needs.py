"""What a machine with a GPU and without a network is asked to bring."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name as plain
from packaging.version import Version

from benchmarks.gpu.needs import CUDA_12, NEEDS, WANTED, lacking, unseen
from benchmarks.gpu.tables import show

ROOT = Path(__file__).parents[2]


def needs(name):
    """Return what a package here needs, extras left out."""
    wanted = map(Requirement, metadata.requires(name) or ())
    return {
        plain(each.name)
        for each in wanted
        if each.marker is None or each.marker.evaluate({"extra": ""})
    }


def closure(names):
    found, todo = set(), list(names)
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            try:
                todo += needs(name)
            except metadata.PackageNotFoundError:  # CUDA's libraries, beside a torch without them
                continue
    return found


def tell(*folders):
    """Return what the command says where Python finds nothing but these folders."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}
    command = [sys.executable, "-S", "-m", "benchmarks.gpu.needs"]
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)


def missing(said):
    (line,) = re.findall("^missing here: (.*)$", said, re.MULTILINE)
    return line.split(", ")


def put(folder, **versions):
    for name, version in versions.items():
        info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="onnxruntime-gpu is not here")
def test_the_needs_of_all_that_is_wanted_are_told():
    torch = closure(["torch", "torchvision"])
    for name in {re.split("[<>=]", wheel)[0] for wheel in WANTED} | set(NEEDS):
        found = {plain(each) for each in NEEDS.get(name, ())}
        assert needs(name) - torch <= found, name
        assert found - needs(name) == set(), name


def test_nothing_older_is_taken_than_the_project_takes():
    tomllib = pytest.importorskip("tomllib")  # of Python 3.11
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    floors: dict[str, list[Version]] = {}
    for text in [*project["dependencies"], *(each for extra in extras for each in extra)]:
        each = Requirement(text)
        found = re.findall(r">=([\d.]+)", str(each.specifier))
        floors.setdefault(plain(each.name), []).extend(map(Version, found))
    for wheel in [*WANTED, *CUDA_12.values()]:
        each = Requirement(wheel)
        (floor,) = re.findall(r">=([\d.]+)", str(each.specifier))
        twelve = wheel in CUDA_12.values()
        assert Version(floor) >= (min if twelve else max)(floors[plain(each.name)]), wheel


def test_where_nothing_is_all_is_named_in_one_go():
    said = tell()
    assert said.returncode == 1 and not said.stderr
    assert said.stdout.startswith("cannot import PyTorch: ")
    assert "no TensorRT (tensorrt or tensorrt_rtx): its rows will be left out" in said.stdout
    wheels = missing(said.stdout)
    assert set(wheels) == {*WANTED, *(need for each in NEEDS.values() for need in each)} - {
        re.split("[<>=]", wheel)[0] for wheel in WANTED
    }
    assert len(wheels) == len(set(wheels))
    (line, _) = re.findall("^  (pip download .*)$", said.stdout, re.MULTILINE)
    words = subprocess.run(["bash", "-c", f"printf '%s\\n' {line}"], capture_output=True, text=True)
    words = words.stdout.splitlines()
    assert words[-len(wheels) :] == wheels
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in words
    assert f"--platform=manylinux_2_17_{platform.machine()}" in words


def test_what_is_old_or_for_the_cpu_is_missing_and_the_needs_of_what_is_there_are_not(tmp_path):
    names = {re.split("[<>=]", wheel)[0]: "99" for wheel in WANTED}
    del names["onnxruntime-gpu"]
    put(tmp_path, **{**names, "safetensors": "0.5.3", "onnxruntime": "1.31.1", "protobuf": "7"})
    said = tell(tmp_path).stdout
    assert missing(said) == [
        "onnxruntime-gpu>=1.27",
        "safetensors>=0.6.1",
        "flatbuffers",
        "packaging",
    ]


def test_for_cuda_12_older_wheels_are_wanted():
    for wheel in CUDA_12.values():
        assert wheel in lacking("12.8")
        assert wheel not in lacking("13.0")


def test_a_torch_for_the_cpu_is_told_from_a_missing_driver():
    assert unseen("2.14.1+cpu", None) == "torch 2.14.1+cpu is not built for CUDA; take one that is"
    found = unseen("2.14.1+cu130", "13.0")
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        assert "finds no NVIDIA driver (libcuda.so.1)" in found and "nvidia-smi" in found
    else:
        assert "a driver for CUDA 13.0 or later" in found


def test_the_python_that_asks_is_the_one_that_installs(tmp_path):
    python = tmp_path / "my python"
    python.symlink_to(sys.executable)
    found = subprocess.run(
        [python, "-S", "-m", "benchmarks.gpu.needs"], cwd=ROOT, capture_output=True, text=True
    )
    assert f"  '{python}' -m pip install --no-index" in found.stdout


def test_the_benchmark_without_a_gpu_is_one_sentence():
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine has a driver")
    command = [sys.executable, "-m", "benchmarks.gpu"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 1 and found.stderr.startswith("Error: torch ")
    assert found.stderr.endswith("--device cpu\n") and found.stderr.count("\n") == 1


def test_a_reason_is_told_once(capsys):
    rows = [{"side": side, "reason": "no GPU"} for side in ("trt session", "trt baked")]
    show("RN50", rows, [], rows, [], [])
    assert capsys.readouterr().out.count("not measured") == 1
    show("RN50", rows, [], [{"side": "trt baked", "reason": "build failed"}], [], [])
    said = capsys.readouterr().out
    assert "not measured: trt session: no GPU\nnot measured: trt baked: build failed\n" in said
    assert "bound" not in said
