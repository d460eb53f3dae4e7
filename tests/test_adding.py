"""Methods, data sets, backends, sources, cameras and outputs are one file and one line each."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.backends import BACKENDS

REPOSITORY = Path(__file__).resolve().parents[1]
FILES = {
    "adapt/methods/foo.py": """
from dataclasses import dataclass

from adapt.methods.base import Method
from adapt.settings.config import TrainConfig


@dataclass(frozen=True)
class FooConfig(TrainConfig):
    entropy: float = 0.1


class Foo(Method):
    Config = FooConfig
""",
    "adapt/data/streets.py": """
from adapt.data.base import Domain
from adapt.data.benchmark import Benchmark


class Streets(Benchmark):
    name = "streets"
    domains = {"d": Domain("day", 9), "n": Domain("night", 9)}
    class_count = 3
    classes = ("bee", "cup", "dog")
""",
    "runtime/backends/foo.py": """
from runtime.backends.ort.backend import OrtBackend


class FooBackend(OrtBackend):
    pass
""",
    "runtime/backends/bar.py": """
import os

from runtime.backends.ort.backend import OrtBackend


class BarBackend(OrtBackend):
    def open(self, graph, **more):
        os.abort()
""",
    "runtime/sources/grey.py": """
import numpy as np

from runtime.sources.base import Item, Source


class Grey(Source):
    def __init__(self, inputs, background):
        super().__init__()
        self.inputs = inputs

    count = None

    def __iter__(self):
        for given in self.inputs:
            for number in range(int(given.name.partition(":")[2])):
                yield Item(given, np.full((9, 9, 3), 128, np.uint8), number=number)

    def close(self):
        pass
""",
    "runtime/sources/live/clock.py": """
import time

import numpy as np

from runtime.sources.live.base import Connection


class Clock(Connection):
    def open(self):
        self.count = int(self.where.partition(":")[2])

    def read(self):
        time.sleep(0.01)
        self.count -= 1
        return np.full((4, 4, 3), self.count, np.uint8), None

    def close(self):
        pass
""",
    "runtime/outputs/count.py": """
from runtime.outputs.base import Output


class Count(Output):
    def __init__(self, path, top):
        self.path, self.count = path, 0

    def write(self, result):
        self.count += 1

    def close(self):
        self.path.write_text(str(self.count))
""",
}
LINES = {
    "adapt/registry.py": {
        "METHODS: Mapping[str, MethodEntry] = {\n": (
            '    "foo": MethodEntry("adapt.methods.foo:Foo", "adapt.methods.foo:FooConfig"),\n'
        ),
        "DATASETS: Mapping[str, str] = {\n": '    "streets": "adapt.data.streets:Streets",\n',
    },
    "runtime/backends/__init__.py": {
        "BACKENDS = {\n": (
            '    "foo": Entry("runtime.backends.foo:FooBackend", "a new one", ("a",), ("cpu",)),\n'
            '    "bar": Entry("runtime.backends.bar:BarBackend", "it crashes", ("a",), ("cpu",)),\n'
        ),
    },
    "runtime/sources/__init__.py": {
        "SOURCES: Mapping[str, Entry] = {\n": (
            '    "grey": Entry("runtime.sources.grey:Grey", lambda n: n.startswith("grey:")),\n'
        ),
    },
    "runtime/sources/live/__init__.py": {
        "CONNECTIONS: Mapping[str, Entry] = {\n": (
            '    "clock": Entry("runtime.sources.live.clock:Clock", lambda w: w[:6] == "clock:"),\n'
        ),
    },
    "runtime/outputs/__init__.py": {
        "OUTPUTS: Mapping[str, Entry] = {\n": (
            '    "count": Entry("runtime.outputs.count:Count", "Count the results."),\n'
        ),
    },
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("copy")
    for folder in ("adapt", "configs", "runtime"):
        unwanted = shutil.ignore_patterns("__pycache__", "*.safetensors")
        shutil.copytree(REPOSITORY / folder, root / folder, ignore=unwanted)
    for name, text in FILES.items():
        (root / name).write_text(text)
    for name, lines in LINES.items():
        text = (root / name).read_text()
        for start, line in lines.items():
            assert start in text
            text = text.replace(start, start + line)
        (root / name).write_text(text)
    return root


def run(copy: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    command = [sys.executable, *words]
    return subprocess.run(
        command, cwd=copy, env=environment, capture_output=True, text=True, check=False
    )


def test_a_new_method_has_its_settings_on_a_new_data_set(copy: Path) -> None:
    chosen = ("--dataset", "streets", "--task", "d-n", "--method", "foo", "--show-settings")
    base = ("--set", "model=demo-rn32", "--set", "pretrained=demo")
    (copy / "adapt/demo/weights/demo-rn32.safetensors").touch()
    done = run(copy, "-m", "adapt.cli", "train", *chosen, *base, "--set", "entropy=0.2")
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.strip()}
    assert rows["entropy"] == ["0.2", "command", "line"]
    assert rows["lr"] == ["3e-06", "default"] and "base model" in " ".join(rows["train_size"])
    fixmatch = run(copy, "-m", "adapt.cli", "train", *chosen, *base, "--set", "fixmatch=0.5")
    assert "but 'foo' has none; choose --method cmkd or source_only" in fixmatch.stderr


def test_a_new_backend_is_a_choice_with_its_help(copy: Path) -> None:
    done = run(copy, "-m", "runtime.cli", "predict", "--help")
    choices = "|".join(sorted([*BACKENDS, "bar", "foo"]))
    assert f"[{choices}]" in done.stdout and "foo: a new one" in done.stdout


def test_a_new_backend_opens_where_its_line_says_and_nowhere_else(copy: Path) -> None:
    code = "from runtime import backends; print(backends.load('foo', '{}', 1).device)"
    done = [run(copy, "-c", code.format(device)) for device in ("cpu", "cuda:1")]
    assert done[0].stdout == "cpu\n", done[0].stderr
    assert "'foo' runs on the CPU, found device 'cuda:1'; pass --device cpu" in done[1].stderr


def test_a_new_backend_is_compared_and_one_that_crashes_is_left_out(copy: Path) -> None:
    bundle = REPOSITORY / "tests/fixtures/549a19a/bundle"
    options = ("--device", "cpu", "--strategy", "patch", "--samples", "2", "--warmup", "0")
    done = run(copy, *("-m", "runtime", "bench", str(bundle), "--compare"), *options, "--json", "-")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [row["name"] for row in found["rows"]] == ["ort cpu patch", "foo cpu patch"]
    assert [row["reference"] for row in found["rows"]] == [True, False]
    assert found["rows"][1]["answers"]["same_top_class"] == 2 * 16
    (crashed,) = (left for left in found["left_out"] if left["what"] == "bar cpu patch")
    assert "its process crashed (Aborted)" in crashed["reason"]
    assert f"run: uda-runtime bench {bundle} --backend bar --device cpu" in crashed["reason"]


def test_a_new_source_and_a_new_output_are_used_by_predict(copy: Path) -> None:
    bundle, out = REPOSITORY / "tests/fixtures/549a19a/bundle", copy / "count.txt"
    task = json.loads((bundle / "manifest.json").read_text())["body"]["tasks"][0]["id"]
    words = ("predict", str(bundle), "grey:70", "--task", task, "--count", str(out))
    done = run(copy, "-m", "runtime", *words)
    assert done.returncode == 0, done.stderr
    assert out.read_text() == "70" and "done      70 frames in" in done.stdout
    assert done.stdout.count("grey:70#") == 70


def test_a_new_kind_of_camera_is_read(copy: Path) -> None:
    code = (
        "from runtime.sources.live.camera import Camera\n"
        "with Camera('c', 'clock:9', 5) as camera:\n"
        "    print([int(camera.frames.get(30).image.max()) for _ in range(3)])"
    )
    done = run(copy, "-c", code)
    assert done.stdout == "[8, 7, 6]\n", done.stderr
