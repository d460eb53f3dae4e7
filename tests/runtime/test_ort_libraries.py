"""CUDA's libraries in Python packages, and what ONNX Runtime prints while it looks for them."""

import ctypes
import os
import shutil
import subprocess
import sys
import threading
import time
from types import ModuleType

import pytest

from runtime.backends.ort import libraries
from runtime.errors import BackendError


class Library:
    """ONNX Runtime's `preload_dlls`, which prints; hashable, as a module is."""

    calls = 0

    def preload_dlls(self):
        self.calls += 1
        time.sleep(0.05)
        print("Failed to load libcudnn.so.9\nsecond")


@pytest.fixture
def nvidia(tmp_path, monkeypatch):
    """The package of NVIDIA's libraries, in two places."""
    places = [tmp_path / "user" / "nvidia", tmp_path / "carried" / "nvidia"]
    for place, names in zip(places, (("cudnn",), ("cu13", "cudnn")), strict=True):
        for name in names:
            (place / name / "lib").mkdir(parents=True)
        (place / "cu13" / "include").mkdir(parents=True)
    module = ModuleType("nvidia")
    module.__path__ = [str(place) for place in places]
    monkeypatch.setitem(sys.modules, "nvidia", module)
    return places


def test_libraries_are_looked_for_in_every_place_of_the_package(nvidia, capsys):
    user, carried = nvidia
    want = [user / "cudnn" / "lib", carried / "cu13" / "lib", carried / "cudnn" / "lib"]
    assert libraries.library_folders() == want
    library = Library()
    for _ in range(2):
        assert libraries.preload(library) == "Failed to load libcudnn.so.9"
    assert library.calls == 1, "once is enough"
    assert capsys.readouterr().out == ""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_a_library_of_any_place_is_found_by_its_name(nvidia):
    _, carried = nvidia
    name = f"libcudart.so.{os.getpid()}"
    with pytest.raises(OSError):
        ctypes.CDLL(name)
    command = ["gcc", "-shared", "-fPIC", "-x", "c", "-", f"-Wl,-soname,{name}", "-o"]
    source = "int answer(void) { return 7; }"
    subprocess.run([*command, carried / "cu13" / "lib" / name], input=source, text=True, check=True)
    (carried / "cudnn" / "lib" / "libcudnn.so.9").write_text("no library")
    libraries.preload(Library())
    assert ctypes.CDLL(name).answer() == 7


def test_without_the_package_the_default_places_are_tried(monkeypatch):
    monkeypatch.setitem(sys.modules, "nvidia", None)
    library = Library()
    libraries.preload(library)
    assert library.calls == 1


def test_an_older_onnxruntime_looks_for_its_libraries_by_itself(nvidia):
    assert libraries.preload(ModuleType("onnxruntime")) == ""


def test_sessions_of_several_threads_leave_stdout_alone(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "nvidia", None)
    former, ended = sys.stdout, []

    def load():
        time.sleep(0.02 * len(ended))
        ended.append(libraries.preload(Library()))

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.02)
    print("a prediction")  # while one of them collects what is printed
    for thread in threads:
        thread.join()
    assert sys.stdout is former
    assert ended == ["Failed to load libcudnn.so.9"] * 3
    assert capsys.readouterr().out == "a prediction\n"


def imported(tmp_path, monkeypatch, text):
    """Import a package of ONNX Runtime's name."""
    (tmp_path / "onnxruntime.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "onnxruntime"]:
        monkeypatch.delitem(sys.modules, name)
    return libraries.onnxruntime()


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_the_middle_of_the_import_stays_one(tmp_path, monkeypatch, interrupt):
    text = f"raise ImportError('initialization failed') from {interrupt.__name__}()\n"
    with pytest.raises(interrupt):
        imported(tmp_path, monkeypatch, text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise ImportError('libm.so.7: cannot open shared object file')\n", r"libm\.so\.7"),
        ("import flatbuffers_that_nobody_has\n", "No module named 'flatbuffers_that_nobody_has'"),
    ],
)
def test_a_broken_onnxruntime_is_not_said_to_be_missing(tmp_path, monkeypatch, text, reason):
    with pytest.raises(BackendError, match=f"cannot import onnxruntime: {reason}.*again"):
        imported(tmp_path, monkeypatch, text)


COMPILE = """
from runtime.backends.ort import libraries
from runtime.cuda import compiler

class Library:
    def preload_dlls(self):
        pass

libraries.preload(Library())
print(compiler.compile_kernels("resize.cu", (8, 7))[:4])
"""


def test_our_kernels_compile_in_a_process_that_has_onnx_runtimes_libraries():
    """In one of its own: what another test has loaded stays."""
    done = subprocess.run([sys.executable, "-c", COMPILE], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "b'\\x7fELF'\n"), done.stderr
