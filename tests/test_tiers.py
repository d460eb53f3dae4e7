"""`make check` and the hooks of pre-commit run what they claim to."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]


def commands(*targets: str) -> list[str]:
    """Return what make would run, the environment taken for installed."""
    command = ["make", "-n", "-o", ".venv/.dev.stamp", *targets]
    outer = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PART", "VENV")  # of a `make test` around this
    env = {name: value for name, value in os.environ.items() if name not in outer}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [line.rstrip() for line in done.stdout.splitlines()]


def test_the_fast_tests_exist_and_cover_every_package():
    listed = (ROOT / "tests/fast.txt").read_text().splitlines()
    assert listed == sorted(set(listed))
    assert [test for test in listed if not (ROOT / test).is_file()] == []
    for package in ("adapt", "export", "runtime"):
        assert any(test.startswith(f"tests/{package}/") for test in listed)


def test_the_hooks_are_the_commands_of_make_check():
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    hooks = [hook["entry"].removeprefix("make ") for hook in repository["hooks"]]
    assert commands(*hooks) == commands("check")
    assert set(commands("format", "imports", "types")) <= set(commands("lint"))


def test_constraints_name_versions_and_no_place():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert lines and all(re.fullmatch(r"[\w.-]+==[\w.!]+", line, re.ASCII) for line in lines)
    assert not any(line.startswith(("uda-edge", "uda_edge")) for line in lines)


def test_make_gpu_runs_all_parts_or_the_one_that_is_named():
    (every,) = commands("gpu")
    (one,) = commands("gpu", "PART=kernels")
    (device,) = commands("gpu-device")
    (bundle,) = commands("gpu-device", "BUNDLE=b.bundle", "PART=bench")
    parts = ["-m", "benchmarks.gpu.parts"]
    assert every.split()[-2:] == parts
    assert one.split()[-3:] == [*parts, "kernels"]
    assert device.split()[-3:] == [*parts, "--without-torch"]
    assert bundle.split()[-6:] == [*parts, "--without-torch", "--bundle", "b.bundle", "bench"]
    (acceptance,) = commands("acceptance")
    assert "-m benchmarks.switches --json benchmarks/results/switches.json" in acceptance


def test_ci_fuzzes_and_soaks_for_a_minute_what_acceptance_does_for_longer():
    called = re.findall(r"^make (.*)$", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    assert called == ["check lint", "test", "fuzz soak MINUTES=1"]
    short = commands("fuzz", "soak")
    assert [line.split("-m ")[1] for line in short] == [
        "benchmarks.fuzz --minutes 1",
        "benchmarks.soak --minutes 1",
    ]
    for line, part in zip(short, ("fuzz", "soak"), strict=True):
        (acceptance,) = commands("acceptance", f"PART={part}")
        assert acceptance.startswith(line.partition(" --minutes")[0] + " --json")


def test_the_pythons_of_a_device_are_tested_without_torch():
    (line,) = commands("runtime-pythons", "VERSIONS=3.12", "ARGUMENTS=-x")
    assert line.endswith("tests/pythons.py 3.12 -x")
    tomllib = pytest.importorskip("tomllib")  # of Python 3.11
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needs = listed["optional-dependencies"]["runtime-tests"]
    extras = re.findall(r"uda-edge\[(.*)\]", " ".join(needs))[0].split(",")
    assert not {"adapt", "export", "dev"} & set(extras)


def test_contributing_names_commands_and_files_that_exist():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    targets = re.findall(r"`make ([\w-]+)", text)
    assert {"check", "lint", "test", "acceptance", "gpu", "gpu-device"} <= set(targets)
    commands(*targets)
    paths = re.findall(r"`([\w./-]+/[\w.-]+\.\w+)`", text)
    missing = [path for path in paths if "foo" not in path and not (ROOT / path).exists()]
    assert len(paths) > 5 and missing == []


def test_git_ignores_no_source_for_a_wheel_would_lack_it(tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    shutil.copy(ROOT / ".gitignore", tmp_path)
    packages = ("adapt", "export", "runtime")
    files = [path for package in packages for path in (ROOT / package).rglob("*.py")]
    found = subprocess.run(
        ["git", "check-ignore", "--no-index", "--stdin"],
        cwd=tmp_path,
        input="".join(f"{path.relative_to(ROOT)}\n" for path in files),
        capture_output=True,
        text=True,
    )
    assert found.stdout == ""
