"""Which library is taken, and how what it says becomes one error."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import runtime
from runtime.backends.trt.library import (
    Messages,
    check_version,
    collected_messages,
    library,
    logger,
    trt,
)
from runtime.errors import BackendError
from tests.rtx import NEEDS_RTX


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("tensorrt", "10.3.0"),
        ("tensorrt", "10.16.1.11"),
        # Its flaw is one of engines built with REFIT, which nothing here does.
        ("tensorrt", "11.3.0.99"),
        ("tensorrt", "11.4.0.106"),
        ("tensorrt_rtx", "1.7.1.116"),
    ],
)
def test_versions_that_the_code_was_written_for_are_taken(name, version):
    check_version(name, version)


@pytest.mark.parametrize(
    ("name", "version", "message"),
    [
        ("tensorrt", "10.2.0", "convolutions can give wrong results"),
        ("tensorrt", "10.2.0.19", "convolutions can give wrong results"),
        ("tensorrt", "10.2.1", "10.3 and later, below 12"),
        ("tensorrt", "8.6.1", "10.3 and later, below 12"),
        ("tensorrt", "12.0.0.1", "10.3 and later, below 12"),
        ("tensorrt_rtx", "1.6.0.100", "1.7 and later, below 2"),
    ],
)
def test_versions_that_do_not_fit_are_refused_with_the_reason(name, version, message):
    with pytest.raises(BackendError, match=message):
        check_version(name, version)


def test_no_engine_is_built_to_be_refitted():
    """Of TensorRT 11.3.0 only such engines can be wrong, so it need not be refused."""
    sources = [file.read_text() for file in Path(runtime.__file__).parent.glob("backends/trt/*.py")]
    assert sources and not any("BuilderFlag.REFIT" in source for source in sources)


def run(tmp_path, script, **modules):
    """Run a script where only these modules stand for the library."""
    for name, source in modules.items():
        (tmp_path / f"{name}.py").write_text(source)
    block = f"""
        import sys
        sys.path.insert(0, {str(tmp_path)!r})
        for name in {{"tensorrt", "tensorrt_rtx"}} - {set(modules)!r}:
            sys.modules[name] = None
    """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(block) + textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


ASK = """
    from runtime.backends.trt.library import library
    try:
        print(library())
    except Exception as error:
        print(type(error).__name__, error)
"""


def test_tensorrt_comes_before_tensorrt_rtx(tmp_path):
    both = {"tensorrt": "__version__ = '10.3.0'", "tensorrt_rtx": "__version__ = '1.7.1'"}
    assert run(tmp_path, ASK, **both) == "tensorrt 10.3.0\n"
    (tmp_path / "tensorrt.py").unlink()
    del both["tensorrt"]
    assert run(tmp_path, ASK, **both) == "tensorrt_rtx 1.7.1\n"


def test_without_a_library_the_error_says_what_to_install(tmp_path):
    found = run(tmp_path, ASK)
    assert found.startswith("BackendError ") and "pip install '.[tensorrt]'" in found


def test_a_broken_library_is_not_passed_over(tmp_path):
    broken = "raise OSError('libnvinfer.so.10: cannot open shared object file')"
    good = "__version__ = '1.7.1'"
    found = run(tmp_path, ASK, tensorrt=broken, tensorrt_rtx=good)
    assert found.startswith("BackendError ") and "libnvinfer.so.10" in found


NULL = """
__version__ = "10.3.0"
class ILogger:
    class Severity:
        INTERNAL_ERROR, ERROR = range(2)
    def __init__(self): pass
class Builder:
    def __init__(self, logger):
        logger.log(ILogger.Severity.ERROR, "CUDA initialization failure with error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")
"""


def test_a_library_that_does_not_start_is_one_error_with_what_it_said(tmp_path):
    """As its bindings fail, see test_trt_api.py, on a machine without a driver."""
    script = """
        from runtime.backends.trt.profile import PROFILES
        from runtime.backends.trt.builder import build
        try:
            build(b"", PROFILES["orin"])
        except Exception as error:
            print(type(error).__name__, error)
    """
    assert run(tmp_path, script, tensorrt=NULL) == (
        "BackendError tensorrt 10.3.0 cannot start: CUDA initialization failure with error: 35; "
        "check the driver and the installation\n"
    )


def test_importing_the_runtime_imports_no_library(tmp_path):
    script = """
        import sys, runtime, runtime.cli, runtime.backends.trt.builder
        print(sorted({"tensorrt", "tensorrt_rtx", "cuda"} & sys.modules.keys()))
    """
    kept = {"tensorrt": "raise SystemExit(3)", "tensorrt_rtx": "raise SystemExit(3)"}
    assert run(tmp_path, script, **kept) == "[]\n"


@NEEDS_RTX
def test_the_library_here_is_named_with_its_version_and_targets():
    found = library()
    assert found.name == "tensorrt_rtx" and str(found) == f"tensorrt_rtx {found.version}"
    assert {"sm86", "sm89"} <= set(found.targets) and "sm87" not in found.targets


@NEEDS_RTX
def test_a_target_without_float32_products_is_left_out_for_no_bundle_builds_there():
    listed = trt.ComputeCapability.__members__
    assert {name.lower() for name in listed if name.startswith("SM")} - {*library().targets} == {
        "sm75"
    }


@NEEDS_RTX
def test_errors_of_the_library_are_collected_for_the_block_that_runs():
    levels = trt.ILogger.Severity
    with collected_messages() as outer:
        logger().log(levels.ERROR, "first")
        with collected_messages() as inner:
            logger().log(levels.WARNING, "only a warning")
            logger().log(levels.INTERNAL_ERROR, "second")
    assert (outer.problems, inner.problems) == (["first"], ["second"])


@NEEDS_RTX
def test_one_error_names_the_nodes_first_and_no_place_in_the_librarys_source():
    messages = Messages(
        problems=["IBuilder::build: Error Code 4 (Bad thing. In validate at /_src/network.cpp:3)"]
    )
    assert "Bad thing." in str(messages.failure("build", "do this"))
    assert "_src" not in str(messages.failure("build", "do this"))
    messages.nodes += ["node 'a' (Cast): no\n such type", "node 'b': no", "node 'c': no"]
    error = str(messages.failure("read the graph", "export the bundle again"))
    assert error.startswith(f"{library()} cannot read the graph: node 'a' (Cast): no such type")
    assert error.endswith("export the bundle again") and "'c'" not in error
    assert "gave no reason" in str(Messages().failure("x", "y"))


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_the_middle_of_the_import_stays_one(tmp_path, interrupt):
    """In a process of its own: the library is kept once it is found."""
    text = f"raise ImportError('initialization failed') from {interrupt.__name__}(7)\n"
    (tmp_path / "tensorrt.py").write_text(text)
    (tmp_path / "tensorrt_rtx.py").write_text(text)
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
    code += "from runtime.backends.trt.library import library\nlibrary()"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if interrupt is SystemExit:
        assert found.returncode == 7
    assert "BackendError" not in found.stderr and found.returncode != 1
