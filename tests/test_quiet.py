"""Nothing that we use writes outside our folders or opens a socket, unless the user asks for it."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from PIL import Image

from runtime.backends import BACKENDS
from tests.runtime.conftest import _make_world

STRACE = shutil.which("strace")
needs_strace = pytest.mark.skipif(
    STRACE is None, reason="strace is not installed (apt-get install strace)"
)
CHANGES = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|mkdir|rename|link|unlink|chmod|truncate|mknod")
OFF = "HF_HUB_DISABLE_TELEMETRY"
NEEDED = {"HOME", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH"}


def environment(**more):
    """Return a user's environment: without what conftest.py switched off, and without CI.

    ONNX Runtime sends nothing where a variable such as CI is set, whatever we do. Python may not
    write bytecode, which the traces would show.
    """
    kept = {k: v for k, v in os.environ.items() if k in NEEDED}
    return kept | {"PYTHONDONTWRITEBYTECODE": "1"} | more


@pytest.fixture
def traced(tmp_path):
    """Predict under strace, and return the traced calls that connect or change a file."""
    bundle = _make_world(tmp_path / "b").path
    Image.new("RGB", (9, 9)).save(tmp_path / "x.png")
    (tmp_path / "home").mkdir()

    def predict(*options, **more):
        words = ["predict", bundle, tmp_path / "x.png", "--task", "a-b", "--json", tmp_path / "out"]
        trace = [STRACE, "-f", "-qq", "-e", "trace=%network,%file", "-o", tmp_path / "trace"]
        subprocess.run(
            [*trace, sys.executable, "-m", "runtime", *words, *options],
            env=environment(HOME=str(tmp_path / "home"), **more),
            check=True,
            capture_output=True,
            timeout=300,
        )
        calls = (tmp_path / "trace").read_text().splitlines()
        sockets = [call for call in calls if re.search(r"\b(socket|connect|send\w*)\(", call)]
        changes = [call for call in calls if CHANGES.search(call) and " = -1 " not in call]
        return sockets, [c for c in changes if "readlink" not in c and '"/dev/null"' not in c]

    return predict


@needs_strace
@pytest.mark.parametrize("backend", [n for n, own in BACKENDS.items() if "cpu" in own.devices])
def test_a_prediction_opens_no_socket_and_writes_what_was_asked_for(traced, tmp_path, backend):
    sockets, changes = traced("--backend", backend)
    assert sockets == []
    assert changes and all(f"{tmp_path}/" in call and "out" in call for call in changes)
    assert list((tmp_path / "home").iterdir()) == []


@needs_strace
def test_a_user_may_ask_for_the_telemetry_of_onnxruntime(traced, tmp_path):
    version = subprocess.run(
        [sys.executable, "-c", "import onnxruntime; print(onnxruntime.__version__)"],
        capture_output=True,
        text=True,
    ).stdout
    if tuple(map(int, version.split(".")[:2])) < (1, 31):
        pytest.skip(f"onnxruntime {version.strip()} has no telemetry on Linux")
    assert any(f"{tmp_path}/home" in call for call in traced(ORT_DISABLE_TELEMETRY="0")[1])


@pytest.mark.parametrize("package", ["adapt", "export"])
@pytest.mark.parametrize(("given", "off"), [({}, "True"), ({OFF: "0"}, "False")])
def test_the_hub_of_weights_is_told_nothing_unless_the_user_asks(package, given, off):
    code = f"import {package}, huggingface_hub.constants as hub; print(hub.{OFF})"
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, env=environment(**given), capture_output=True, text=True)
    assert done.stdout.strip() == off, done.stderr
