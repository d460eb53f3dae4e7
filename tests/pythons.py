"""Run the runtime's tests under other versions of Python: `python tests/pythons.py [VERSION...]`.

Takes the interpreters that this machine has, on the PATH or installed by pyenv or uv, and downloads
none. Each gets a virtual environment without torch in `build/pythons`. Names the versions that were
not found, and exits with 1 if a test failed or no version was found.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ("3.10", "3.12", "3.13")
OLDEST_OF_CONSTRAINTS = (3, 11)
"""The versions in `constraints.txt` are those of an environment that can train."""


def candidates(version: str) -> list[str]:
    """Return paths where an interpreter of a version may lie."""
    name = f"python{version}"
    found = [shutil.which(name)]
    homes = [os.environ.get("PYENV_ROOT", "~/.pyenv"), "~/.local/share/uv/python"]
    for home, pattern in zip(homes, (f"versions/{version}.*", f"*{version}*"), strict=True):
        found += sorted(map(str, Path(home).expanduser().glob(f"{pattern}/bin/{name}")))
    return [path for path in found if path]


def find(version: str) -> str | None:
    """Return an interpreter of a version that runs and can make environments, or None."""
    code = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
    for path in candidates(version):
        done = subprocess.run([path, "-c", code], capture_output=True, text=True, check=False)
        if done.stdout.strip() == version:
            return path
    return None


def prepare(interpreter: str, version: str) -> Path:
    """Return the interpreter of a virtual environment with what the runtime's tests need."""
    place = ROOT / "build" / "pythons" / version
    python = place / "bin" / "python"
    if not python.exists():
        subprocess.run([interpreter, "-m", "venv", place], check=True)
    # A library of the constraints may have dropped the oldest Python that a device still has.
    pinned = tuple(map(int, version.split("."))) >= OLDEST_OF_CONSTRAINTS
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        + (["-c", "constraints.txt"] if pinned else [])
        + ["--editable", ".[runtime-tests]"],
        cwd=ROOT,
        check=True,
    )
    return python


def test(python: Path, arguments: list[str]) -> int:
    """Run the runtime's tests, and return the exit status."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)  # of an environment that has torch
    free = "import importlib.util as u, sys; sys.exit(u.find_spec('torch') is not None)"
    subprocess.run([python, "-c", free], cwd=ROOT, env=environment, check=True)
    command = [python, "-m", "pytest", *(arguments or ["tests/runtime"])]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


def main(arguments: list[str]) -> int:
    """Test under each version that is there; return the exit status of the program."""
    wanted = [one for one in arguments if one in VERSIONS] or VERSIONS
    rest = [one for one in arguments if one not in VERSIONS]
    results: dict[str, str] = {}
    for version in wanted:
        interpreter = find(version)
        if interpreter is None:
            results[version] = "not found"
            continue
        print(f"Python {version}: {interpreter}", flush=True)
        results[version] = "failed" if test(prepare(interpreter, version), rest) else "passed"
    print("\n".join(f"Python {version}: {result}" for version, result in results.items()))
    return int("failed" in results.values() or "passed" not in results.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
