"""The host's work for a frame is measured over the emulated driver, wherever a compiler is."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_every_cost_is_measured_and_compared_with_its_target(tmp_path):
    command = [sys.executable, "-m", "benchmarks.host_cost", "--samples", "2"]
    command += ["--json", str(tmp_path / "cost.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "cost.json").read_text())
    assert found["host_us"].keys() == {"encoder and head", "session's frame", "switch"}
    assert all(us > 0 for us in found["host_us"].values())
    assert found["targets_us"].keys() < found["host_us"].keys()
