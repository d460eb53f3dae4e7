import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from runtime.backends import BACKENDS
from runtime.benchmark.latency import machine
from runtime.bundles.bundle import Bundle
from runtime.cli import main
from runtime.strategies import STRATEGIES

ROOT = Path(__file__).parents[2]


def run(*args):
    return CliRunner().invoke(main, [str(a) for a in args], catch_exceptions=False)


@pytest.fixture
def image(tmp_path, frame):
    Image.fromarray(frame).save(tmp_path / "x.png")
    return tmp_path / "x.png"


def test_info_lists_every_task_and_check_reads_every_file(world):
    result = run("info", world.path, "--check")
    assert result.exit_code == 0
    for task in world.tasks.values():
        assert f"{task.info.source} -> {task.info.target}" in result.output
    assert "checked   6 files, all intact" in result.output


def test_info_marks_what_is_damaged_and_shows_the_rest(world):
    first, second, *_ = Bundle.open(world.path).manifest.tasks
    path, gone = (world.path / entry.file.path for entry in (first, second))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    gone.unlink()
    for words, code in (((), 0), (("--check",), 1)):
        result = run("info", world.path, *words)
        assert result.exit_code == code
        rows = {line.split()[0]: line for line in result.stdout.splitlines() if " -> " in line}
        assert {t for t in rows if "damaged" in rows[t].split()} == {first.id, second.id}
        assert f"\ndamaged   '{path}' was altered; copy the bundle again\n" in result.stdout
        assert f"\ndamaged   '{gone}' no longer exists; " in result.stdout
        assert "all intact" not in result.stdout
    assert result.stderr.startswith(f"error: 2 files of '{world.path}' cannot be used, see above;")
    base = world.path / Bundle.open(world.path).manifest.tensors.path
    with base.open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(bytes([base.read_bytes()[-1] ^ 1]))
    assert base.name not in run("info", world.path).stdout  # its values are not read
    assert f"damaged   '{base}' " in run("info", world.path, "--check").stdout


def test_predict_prints_what_the_session_says(world, image, frame, tmp_path):
    out = tmp_path / "out.json"
    result = run("predict", world.path, image, "--task", "a-d", "--top", 2, "--json", out)
    assert result.exit_code == 0
    best = world.tasks["a-d"].info.classes[int(world.logits("a-d", frame[None]).argmax())]
    assert result.output.startswith(f"{image}: {best} ")
    assert json.loads(out.read_text())[0]["top"][0][0] == best


def test_a_working_folder_that_is_removed_is_named(world, image, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    result = run("predict", world.path, image, "--task", "a-d", "--json", "out.json")
    assert result.exit_code == 1
    assert result.output.startswith("error: the working folder does not exist any more; change to")


def test_an_unreadable_image_keeps_no_other_from_being_classified(world, image, tmp_path):
    broken, out = tmp_path / "broken.jpg", tmp_path / "out.json"
    broken.write_bytes(image.read_bytes()[:40])
    result = run("predict", world.path, broken, image, "--task", "a-d", "--json", out)
    assert result.exit_code == 1
    assert f"error: cannot read the image '{broken}'" in result.output
    assert result.output.count(str(broken)) == 1
    assert result.output.rstrip().endswith("1 of 2 images could not be classified; see above")
    first, second = json.loads(out.read_text())
    assert "cannot read" in first["error"]
    assert second["top"]


def test_a_path_that_the_system_refuses_stops_no_other_classification(world, image, tmp_path):
    ring, out = tmp_path / "ring", tmp_path / "out.json"
    ring.symlink_to("ring")
    result = run(
        "predict", world.path, "x" * 300, ring, image, "--task", "a-d", "--json", out
    )  # fmt: skip
    assert "2 of 3 images could not be classified" in result.output
    assert [("error" in row, "top" in row) for row in json.loads(out.read_text())] == [
        (True, False), (True, False), (False, True),
    ]  # fmt: skip


def test_an_image_too_narrow_to_crop_keeps_no_other_from_being_classified(mixed, image, tmp_path):
    thin, out = tmp_path / "thin.png", tmp_path / "out.json"
    Image.fromarray(np.zeros((2, 900, 3), np.uint8)).save(thin)
    result = run("predict", mixed.path, thin, image, "--task", "a-c", "--json", out)
    assert result.exit_code == 1
    assert f"{thin}: error: a frame of 900 x 2 pixels is too narrow to crop" in result.output
    first, second = json.loads(out.read_text())
    assert "too narrow" in first["error"] and second["top"]


def test_json_is_not_written_over_an_image(world, image):
    before = image.read_bytes()
    result = run("predict", world.path, image, "--task", "a-d", "--json", image)
    assert result.exit_code == 1 and "is an input" in result.output
    assert image.read_bytes() == before


def test_bench_prints_a_table_and_writes_json(world, tmp_path):
    out = tmp_path / "bench.json"
    result = run(
        *("bench", world.path, "--samples", 20, "--warmup", 2, "--batch", 1, "--batch", 3),
        *("--threads", 1, "--json", out),
    )
    assert result.exit_code == 0
    report = json.loads(out.read_text())
    rows = [r for r in report["rows"] if r["kind"] == "predict"]
    assert [(r["task"], r["batch"]) for r in rows] == [
        (t, b) for t in ("a-b", "a-c", "a-d") for b in (1, 3)
    ]
    switch = report["rows"][-1]["switch_ms"]
    for times in [switch, *(r["predict_ms"] for r in rows), *(r["engine_ms"] for r in rows)]:
        assert times["samples"] == 20
        assert 0 < times["min"] <= times["p50"] <= times["p90"] <= times["p99"]
    for r in rows:
        rate = 1000 * r["batch"] / r["predict_ms"]["p50"]
        assert r["images_per_second"] == pytest.approx(rate, rel=0.01)
    assert report["machine"]["versions"]["numpy"] == np.__version__
    assert report["peak_rss_bytes"] > 10_000_000
    assert "switch" in result.output


@pytest.mark.parametrize("tasks", [("a-b", "a-c"), ("a-b", "a-c", "a-b"), ("a-b", "a-b")])
def test_bench_measures_as_many_switches_as_asked(world, tmp_path, tasks):
    out = tmp_path / "bench.json"
    options = [option for task in tasks for option in ("--task", task)]
    result = run("bench", world.path, "--samples", 31, "--warmup", 4, *options, "--json", out)
    assert result.exit_code == 0
    rows = json.loads(out.read_text())["rows"]
    assert len([r for r in rows if r["kind"] == "predict"]) == len(set(tasks))
    switches = [r["switch_ms"]["samples"] for r in rows if r["kind"] == "switch"]
    assert switches == ([31] if len(set(tasks)) == 2 else [])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["info", "nowhere"], "the bundle 'nowhere' does not exist; check the path"),
        (["predict", "STEM", "x.png"], "toy' does not exist; did you mean"),
        (
            ["predict", "FOLDER", "x.png"],
            "is not a bundle (no manifest.json); create one with `uda-export onnx`",
        ),
        (["predict", "BUNDLE", "IMAGE", "--task", "x-y"], "unknown task 'x-y'"),
        (["predict", "BUNDLE", "IMAGE"], "available: a-b, a-c, a-d; name one, for example --task"),
        (["predict", "nowhere", "x.png"], "the bundle 'nowhere' does not exist; check the path"),
        (
            ["predict", "BUNDLE", "missing.png", "--task", "a-b"],
            "error: 'missing.png' does not exist; check the path",
        ),
        (["predict", "BUNDLE", "*.png", "--task", "a-b"], "no file matches '*.png'; check the pa"),
        (["bench", "BUNDLE", "--task", "x-y"], "unknown task 'x-y'"),
        (["predict", "BUNDLE", "IMAGE", "--task", "\x1b[2J工"], "unknown task '\\x1b[2J工'"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_one(world, image, args, message):
    names = {"BUNDLE": str(world.path), "IMAGE": str(image), "FOLDER": str(image.parent)}
    names["STEM"] = str(world.path.with_suffix(""))
    result = run(*(names.get(a, a) for a in args))
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full here")
def test_output_onto_a_full_disk_is_one_line(world):
    words = [sys.executable, "-m", "runtime.cli", "info", str(world.path)]
    with open("/dev/full", "w") as full:
        result = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert result.returncode == 1
    assert result.stderr.startswith("error: cannot write the output: No space left")
    assert result.stderr.count("\n") == 1


def test_wrong_usage_exits_with_two():
    assert run("predict").exit_code == 2
    assert run("bench", "b", "--samples", "0").exit_code == 2


@pytest.mark.parametrize(
    ("command", "option", "table"),
    [
        (("predict", "b", "x.png"), "backend", BACKENDS),
        (("predict", "b", "x.png"), "strategy", STRATEGIES),
        (("bench", "b"), "backend", BACKENDS),
        (("build", "b"), "strategy", STRATEGIES),
    ],
)
def test_what_the_registries_hold_is_what_can_be_chosen(command, option, table):
    result = run(*command, f"--{option}", "x")
    assert result.exit_code == 2
    assert f"'x' is not one of {', '.join(repr(name) for name in sorted(table))}" in result.stderr
    shown = " ".join(run(command[0], "--help").stdout.split())
    for name, entry in table.items():
        assert f"{name}: {entry.summary}" in shown


def test_a_measurement_names_the_library_of_each_backend():
    import onnxruntime

    versions = machine()["versions"]
    own = [versions[name] for name in BACKENDS["ort"].packages if name in versions]
    assert own == [onnxruntime.__version__]


@pytest.mark.parametrize(
    "code",
    [
        "import runtime, runtime.cli, runtime.benchmark.latency, runtime.bundles.bundle",
        "import runtime.backends.ort.backend, runtime.backends.ort.device_engine",
        "from click.testing import CliRunner; from adapt.cli import main; "
        "assert CliRunner().invoke(main, ['train', '--help']).exit_code == 0",
        "from click.testing import CliRunner; from export.cli import main; "
        "assert CliRunner().invoke(main, ['onnx', '--help']).exit_code == 0",
    ],
)
def test_the_runtime_and_every_help_text_come_without_torch(code):
    check = "import sys; bad = {'torch', 'open_clip', 'onnxruntime', 'onnx'} & set(sys.modules); "
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; {check}assert not bad, bad"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_a_session_knows_nothing_of_one_backends_engines():
    code = (
        "import sys, runtime.strategies.patch, runtime.strategies.engines; from runtime import *; "
        "bad = [name for name in sys.modules if name.startswith(('runtime.backends.trt', "
        "'runtime.backends.ort'))]; assert not bad, bad"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


WITHOUT = """if True:
    import sys

    class Without:
        def __init__(self, finder):
            self.finder = finder

        def find_spec(self, name, *more):
            gone = name.partition(".")[0] in {gone!r}
            return None if gone else self.finder.find_spec(name, *more)

        def __getattr__(self, name):  # versions of packages are found through it as well
            return getattr(self.finder, name)

    sys.meta_path[:] = map(Without, sys.meta_path)
    from adapt.cli import main

    main({words!r})
"""


@pytest.mark.parametrize("package", ["torch", "open_clip"])
def test_a_command_that_needs_a_missing_extra_says_which(package):
    pytest.importorskip("rich", reason="the other packages of the extra must be there")
    words = ["train", "--dataset", "demo-digits", "--task", "f-h"]
    words += ["--set", "model=RN101"] if package == "open_clip" else []
    code = WITHOUT.format(gone=["torch", package], words=words)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip().startswith(f"error: this command needs '{package}'")
    assert "pip install '.[export]'" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("package", ["adapt", "export", "runtime"])
def test_every_program_also_runs_as_a_module(package):
    command = [sys.executable, "-m", f"{package}.cli", "--version"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and "version" in done.stdout
