"""Carrying wheels to a GPU machine: one GPU's code is kept, and a call unpacks what it needs."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu import kit
from benchmarks.gpu.steps import PARTS, find_gpu
from benchmarks.gpu.visit import CALLS

ROOT = Path(__file__).parents[2]
tools = pytest.mark.skipif(
    not all(map(shutil.which, ("gcc", "readelf"))), reason="needs gcc and binutils"
)


def entry(kind: int, capability: int, content: bytes) -> bytes:
    return struct.pack("<HHIQ12xI32x", kind, 0, 64, len(content), capability) + content


def library(folder: Path) -> Path:
    """A library with code for 8.0 and 9.0, and PTX for 9.0, in two fat binaries."""
    both = entry(kit.CUBIN, 80, b"A" * 64) + entry(kit.CUBIN, 90, b"B" * 64)
    text = entry(1, 90, b"C" * 64)
    containers = b"".join(
        struct.pack("<IHHQ", kit.FATBIN, 1, 16, len(each)) + each for each in (both, text)
    )
    (folder / "fat.bin").write_bytes(containers + bytes(64))
    (folder / "fat.s").write_text('.section .nv_fatbin,"a"\n.incbin "fat.bin"\n')
    subprocess.run(["gcc", "-shared", "-o", "fat.so", "fat.s"], cwd=folder, check=True)
    return folder / "fat.so"


@tools
def test_only_the_code_for_one_gpu_stays(tmp_path):
    path = library(tmp_path)
    before = path.read_bytes()
    assert kit.prune(path, 90) == 64
    want = before.replace(b"A" * 64, bytes(64)).replace(b"C" * 64, bytes(64))
    assert path.read_bytes() == want and b"B" * 64 in want


@tools
def test_a_library_without_code_for_the_gpu_is_refused_untouched(tmp_path):
    path = library(tmp_path)
    before = path.read_bytes()
    with pytest.raises(SystemExit, match="no code for capability 87"):
        kit.prune(path, 87)
    assert path.read_bytes() == before


def test_an_archive_that_is_too_large_to_carry_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"x")
    monkeypatch.setattr(kit, "LIMIT", 10)
    with pytest.raises(SystemExit, match="larger than"):
        kit.pack(tmp_path, [tmp_path / "a"], tmp_path / "out" / "site.tar.xz")


def test_the_calls_of_a_visit_fit_its_fifteen_minutes_and_name_real_parts():
    assert all(part in PARTS for call in CALLS.values() for part in call.parts)
    assert sum(call.seconds for call in CALLS.values()) <= 640  # starts and transfers take the rest


@pytest.mark.skipif(find_gpu()[0] is not None, reason="this machine has a GPU")
def test_a_call_unpacks_what_was_carried_and_leaves_its_json(tmp_path):
    (tmp_path / "module.py").write_text("found = 1\n")
    kit.pack(tmp_path, [tmp_path / "module.py"], tmp_path / ".gpu2" / "site.tar.xz")
    command = [sys.executable, "-m", "benchmarks.gpu.visit", "2", "--kit", str(tmp_path / ".gpu2")]
    command += ["--site", str(tmp_path / "site"), "--folder", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and not done.stderr
    assert (tmp_path / "site" / "module.py").read_text() == "found = 1\n"
    assert json.loads((tmp_path / "out" / "gpu-session.json").read_text())["status"][:6] == "no GPU"


@pytest.mark.skipif(find_gpu()[0] is not None, reason="this machine has a GPU")
@pytest.mark.parametrize("call", ["1", "2"])
@pytest.mark.parametrize("content", [None, b"damaged"])
def test_what_cannot_be_unpacked_ends_the_call_with_one_line(tmp_path, call, content):
    if content is not None:
        (tmp_path / "site.tar.xz").write_bytes(content)
    command = [sys.executable, "-m", "benchmarks.gpu.visit", call, "--kit", str(tmp_path)]
    command += ["--site", str(tmp_path / "site"), "--folder", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: cannot unpack ")
    assert len(done.stderr.splitlines()) == 1 and "site.tar.xz" in done.stderr
