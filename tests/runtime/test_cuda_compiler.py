"""NVRTC needs neither a GPU nor a driver, so every machine compiles for every GPU."""

import ctypes
import os
import subprocess
import sys

import pytest

from runtime.cuda import compiler, driver
from runtime.errors import BackendError


@pytest.mark.parametrize("source", compiler.SOURCES)
@pytest.mark.parametrize("capability", [(8, 7), (9, 0), (11, 0)], ids=["Orin", "H200", "Thor"])
def test_our_kernels_compile_for_the_gpus_we_name(source, capability):
    code = compiler.compile_kernels(source, capability)
    assert code[:4] == b"\x7fELF"
    # ELF64, machine 190 is CUDA.
    assert (code[4], int.from_bytes(code[18:20], "little")) == (2, 190)
    for name in {"scatter.cu": ["uda_patch", "uda_undo"], "resize.cu": ["uda_resize"]}[source]:
        assert f".text.{name}\0".encode() in code


def test_a_gpu_that_nvrtc_does_not_know_is_named():
    with pytest.raises(BackendError, match=r"'scatter.cu' for sm_52: .*-arch.*install the NVRTC"):
        compiler.compile_kernels("scatter.cu", (5, 2))


def test_a_kernel_is_compiled_once_and_damaged_code_again(tmp_path, monkeypatch):
    want = compiler.kernels("resize.cu", (8, 7), tmp_path)
    (kept,) = (tmp_path / "kernels").iterdir()
    for damaged in (b"", kept.read_bytes()[:-1], kept.read_bytes()[:50] + b"x"):
        kept.write_bytes(damaged)
        assert compiler.kernels("resize.cu", (8, 7), tmp_path) == want
    calls = []
    monkeypatch.setattr(compiler, "compile_kernels", lambda *given: calls.append(given) or b"new")
    assert compiler.kernels("resize.cu", (8, 7), tmp_path) == want
    assert not calls
    assert compiler.kernels("resize.cu", (9, 0), tmp_path) == b"new"
    assert compiler.kernels("scatter.cu", (8, 7), tmp_path) == b"new"
    assert len(list((tmp_path / "kernels").iterdir())) == 3


def test_other_sources_are_other_kernels(tmp_path, monkeypatch):
    folder = tmp_path / "sources"
    folder.mkdir()
    for name in ("pages.h", "resize.cu"):
        (folder / name).write_bytes((compiler._FOLDER / name).read_bytes())
    monkeypatch.setattr(compiler, "_FOLDER", folder)
    compiler.kernels("resize.cu", (8, 7), tmp_path)
    for name in ("pages.h", "resize.cu"):
        (folder / name).write_bytes((folder / name).read_bytes() + b"// changed\n")
        compiler.kernels("resize.cu", (8, 7), tmp_path)
    assert len(list((tmp_path / "kernels").iterdir())) == 3


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path):
    (tmp_path / "file").write_text("")
    assert compiler.kernels("resize.cu", (8, 7), tmp_path / "file")[:4] == b"\x7fELF"


def test_the_cache_is_where_the_user_says(tmp_path, monkeypatch):
    monkeypatch.setenv("UDA_RUNTIME_CACHE", str(tmp_path))
    compiler.kernels("resize.cu", (8, 7))
    assert (tmp_path / "kernels").is_dir()
    monkeypatch.delenv("UDA_RUNTIME_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert compiler.cache_folder() == tmp_path / ".cache" / "uda-runtime"


def test_a_mistake_in_a_kernel_is_shown_with_its_line(tmp_path, monkeypatch):
    for name in ("pages.h", "resize.cu"):
        (tmp_path / name).write_text("nonsense;\n")
    monkeypatch.setattr(compiler, "_FOLDER", tmp_path)
    with pytest.raises(BackendError, match=r"resize.cu\(1\): error"):
        compiler.compile_kernels("resize.cu", (8, 7))


def test_a_missing_nvrtc_names_the_package_that_brings_it(tmp_path, monkeypatch):
    def version():
        raise RuntimeError("Failure finding libnvrtc.so")

    monkeypatch.setattr(driver.nvrtc(), "nvrtcVersion", version)
    with pytest.raises(BackendError, match="NVRTC, which was not found; run: pip install"):
        compiler.kernels("resize.cu", (8, 7), tmp_path)


@pytest.mark.parametrize("module", ["driver", "nvrtc"])
def test_a_missing_package_names_the_command_that_brings_it(module, monkeypatch):
    driver.driver.cache_clear()
    monkeypatch.setitem(sys.modules, f"cuda.bindings.{module}", None)
    # Without NVIDIA's driver the package would not help: that is then what is asked for.
    first = module == "driver" and not _driver_is_here()
    wanted = r"libcuda\.so\.1.*; install it$" if first else r"package cuda-bindings.*pip install"
    with pytest.raises(BackendError, match=wanted):
        getattr(driver, module)()


def _driver_is_here():
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def test_a_machine_without_a_driver_is_told_so(tmp_path):
    if _driver_is_here():
        pytest.skip("this machine has a driver")
    code = "from runtime.cuda.device import CudaDevice; CudaDevice()"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ}
    )
    last = found.stderr.strip().splitlines()[-1]
    assert "BackendError: a GPU needs NVIDIA's driver (libcuda.so.1)" in last
    assert last.endswith("; install it")


def test_importing_the_runtime_loads_nothing_of_cuda():
    code = (
        "import sys, runtime.memory.device, runtime.backends.ort.backend; "
        "print([n for n in sys.modules if n == 'cuda' or n.startswith('cuda.')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stdout.strip() == "[]", found.stderr
