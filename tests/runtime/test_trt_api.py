"""The code that calls TensorRT, checked against the API of each release that it is written for.

`make lint` checks it on every machine against what those releases have in common, a stub in
tests/trt_api. Here the stub itself is checked, wherever pip can fetch NVIDIA's binding wheels.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.trt_api import make

pytest.importorskip("mypy", reason="no mypy in the environments of make runtime-pythons")
ROOT = Path(make.__file__).parents[2]
SOURCES = sorted(
    path
    for path in (ROOT / "runtime").rglob("*.py")
    if "runtime.backends.trt.library import" in path.read_text() or path.match("trt/library.py")
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What mypy knows of everything but the stub."""
    return tmp_path_factory.mktemp("mypy")


def check(stub: str, folder: Path, cache: Path) -> str:
    """Return what mypy finds in our code over a stub of TensorRT; empty if it is content."""
    (folder / "api" / "tensorrt").mkdir(parents=True)
    (folder / "api" / "tensorrt" / "__init__.pyi").write_text(stub)
    config = (ROOT / "pyproject.toml").read_text()
    changed = config.replace('mypy_path = "tests/trt_api"', f'mypy_path = "{folder / "api"}"')
    assert changed != config
    (folder / "pyproject.toml").write_text(changed)
    command = [sys.executable, "-m", "mypy", "--config-file", str(folder / "pyproject.toml")]
    options = ["--cache-dir", str(cache), "--follow-imports=silent"]
    done = subprocess.run(
        [*command, *options, *map(str, SOURCES)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    return "" if done.returncode == 0 else done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the wheels are unpacked."""
    return tmp_path_factory.mktemp("wheels")


@pytest.fixture(scope="module")
def wheels(folder: Path) -> dict[str, str]:
    """The stub of each release, from its wheel."""
    try:
        return {wheel: make.stub_of(wheel, folder / wheel) for wheel in make.WHEELS}
    except make.CannotMake as error:
        pytest.skip(
            f"{error}; the releases are not looked at, only tests/trt_api/tensorrt, by make lint"
        )


def test_all_that_calls_the_library_is_checked():
    names = {path.stem for path in SOURCES if path.parent.name == "trt"}
    assert {"library", "builder", "tensors", "contexts", "plan", "engine"} <= names


def test_the_code_uses_only_what_every_release_has(tmp_path, cache):
    assert check(make.STUB.read_text(), tmp_path, cache) == ""


def test_a_name_that_no_release_has_is_found(tmp_path, cache):
    """The check can fail: the stub is not Any."""
    stub = make.STUB.read_text()
    for name in ("clear_flag", "get_dimension_name", "STRONGLY_TYPED", "set_tensor_address"):
        assert f"{name}" in stub
        stub = stub.replace(name, f"no_{name}")
    found = check(stub, tmp_path, cache)
    for name in ("clear_flag", "get_dimension_name", "STRONGLY_TYPED", "set_tensor_address"):
        assert f'has no attribute "{name}"' in found


def test_the_stub_is_what_the_releases_have_in_common(wheels):
    assert make.common(wheels.values()) == make.STUB.read_text(), "run tests/trt_api/make.py"


@pytest.mark.parametrize("wheel", make.WHEELS)
def test_the_code_fits_each_release(wheels, wheel, tmp_path, cache):
    assert check(make.whole(wheels[wheel]), tmp_path, cache) == ""


@pytest.mark.parametrize("wheel", make.WHEELS)
@pytest.mark.parametrize("kind", ["Builder", "Runtime"])
def test_what_a_release_does_when_it_cannot_start_is_one_error(folder, wheels, wheel, kind):
    """The libraries beside the wheels are empty: they give nothing, as ones without a driver."""
    code = f"""
import sys, tensorrt_bindings.tensorrt as found
found.__version__ = "{wheel.split("==")[1]}"
sys.modules["tensorrt"] = found
from runtime.errors import BackendError
from runtime.backends.trt.library import started, trt
try:
    started(trt.{kind})
except BackendError as error:
    print(error)
"""
    package = str(folder / wheel)
    paths = {"LD_LIBRARY_PATH": package, "PYTHONPATH": f"{package}:{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **paths}, capture_output=True, text=True
    )
    assert done.stdout.endswith("cannot start: it gave no reason; check the driver and the "
                                "installation\n"), done.stderr  # fmt: skip
