"""The parts of `make gpu`: complete, with the packages they name, and ended in time."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.gpu import parts
from benchmarks.gpu.parts import main, run_step
from benchmarks.gpu.steps import DEVICE_PARTS, PARTS, Step, find_gpu, missing
from tests.runtime.conftest import _make_world

ROOT = Path(__file__).parents[2]
OPTIONAL = {"hypothesis", "matplotlib", "onnxruntime", "open_clip", "rich", "tensorrt", "torch"}
OPTIONAL |= {"tensorrt_rtx", "torchvision", "yaml", "tritonclient", "sklearn", "ray"}
COLLECT = """if True:
    import sys
    absent, *tests = sys.argv[1:]

    class Absent:
        def find_spec(self, name, path=None, target=None):
            if name in absent.split():
                raise ModuleNotFoundError(name)

    sys.meta_path.insert(0, Absent())
    import pytest
    sys.exit(pytest.main(["-p", "no:cacheprovider", "--collect-only", "-m", "gpu", *tests]))
"""
RESULTS = """if True:
    import json, os, time
    import pytest

    pytestmark = pytest.mark.gpu

    def test_a(): pass
    def test_b(): pytest.skip("not today")
    def test_c(): assert 1 == 2

    def test_d():
        end = time.monotonic() + 30
        while time.monotonic() < end:
            try:
                with open(os.environ["PART"]) as file:
                    if len(json.load(file)["steps"][0]["tests"]) == 3:
                        return
            except (OSError, KeyError):
                pass
            time.sleep(0.1)
        raise AssertionError("the results of a, b and c are not in the file yet")
"""
WARNS = """if True:
    import warnings
    import pytest

    @pytest.mark.gpu
    def test_warns(): warnings.warn("use another API", DeprecationWarning)
"""
HANGS = """if True:
    import os, time
    import pytest

    @pytest.mark.gpu
    def test_hangs():
        with open(os.environ.get("RUNNING", os.devnull), "w") as file:
            file.write(str(os.getpid()))
        time.sleep(600)
"""


def test_every_gpu_test_belongs_to_one_part():
    others = set(ROOT.glob("tests/**/test_*.py")) - {Path(__file__)}
    marked = {path for path in others if "pytest.mark.gpu\n" in path.read_text()}
    marked |= set(ROOT.glob("tests/runtime/cuda/test_*.py"))
    steps = [step for part in PARTS.values() for step in part if not step.under]
    listed = [ROOT / test for step in steps for test in step.tests]
    assert sorted(listed) == sorted(marked)


@pytest.mark.parametrize("part", [part for part in DEVICE_PARTS if part != "bench"])
def test_the_tests_of_a_device_need_no_package_that_is_not_named(part):
    step = next(step for step in PARTS[part] if "torch" not in step.needs)
    named = {name for need in step.needs for name in need.split(" or ")}
    command = [sys.executable, "-c", COLLECT, " ".join(sorted(OPTIONAL - named)), *step.tests]
    env = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # plugins import what is absent
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_step_names_the_packages_that_it_lacks():
    step = Step(("json", "nowhere_a or json", "nowhere_b.inner", "nowhere_c or nowhere_d"))
    assert missing(step) == "needs nowhere_b.inner, nowhere_c or nowhere_d; not installed"
    assert missing(Step(("json",))) is None
    assert missing(Step((), under=("nowhere-e", "-x"))) == "needs nowhere-e; not installed"
    assert "device" in (missing(Step(("torch",)), without_torch=True) or "")


@pytest.mark.skipif(find_gpu()[0] is not None, reason="this machine has a GPU")
def test_without_a_gpu_every_part_says_so_by_name(tmp_path):
    command = [sys.executable, "-S", "-m", "benchmarks.gpu.parts", "--folder", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and not done.stderr
    for part in PARTS:
        assert f"{part}: no GPU: " in done.stdout
        document = json.loads((tmp_path / f"gpu-{part}.json").read_text())
        assert document["status"].startswith("no GPU: ")
        assert len(document["left_out"]) == len(PARTS[part])  # -S: no package is found
    few = subprocess.run([*command, "--without-torch"], cwd=ROOT, capture_output=True, text=True)
    assert re.findall("^(.*): no GPU", few.stdout, re.MULTILINE) == list(DEVICE_PARTS)
    assert "torch" not in "".join(re.findall(": needs .*", few.stdout))


def test_an_unknown_part_lists_the_parts():
    command = [sys.executable, "-m", "benchmarks.gpu.parts", "kernel"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "unknown part 'kernel'; available: kernels, session, training" in done.stderr


def run(folder, monkeypatch, text, seconds, *others):
    test, path = folder / "test_some.py", folder / "gpu-some.json"
    test.write_text(text)
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PART", str(path))
    monkeypatch.setenv("PYTEST_ADDOPTS", "-o markers=gpu")
    document = {"steps": []}
    run_step(Step((), (*others, str(test))), path, document, time.monotonic() + seconds)
    (step,) = document["steps"]
    assert [each.name for each in folder.glob("gpu-*.jsonl")] == []
    return step


def test_results_stand_in_the_file_while_the_next_test_runs(tmp_path, monkeypatch):
    step = run(tmp_path, monkeypatch, RESULTS, 120)
    found = [(test["test"][-6:], test["result"]) for test in step["tests"]]
    assert found == [
        ("test_a", "passed"),
        ("test_b", "skipped"),
        ("test_c", "failed"),
        ("test_d", "passed"),
    ]
    assert step["exit"] == 1 and "not today" in step["tests"][1]["why"]
    assert "assert 1 == 2" in step["tests"][2]["why"]


def test_neither_warnings_nor_plugins_of_other_packages_fail_a_test(tmp_path, monkeypatch):
    info = tmp_path / "site" / "other-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Name: other\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[pytest11]\nother = not_installed\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}{os.pathsep}{ROOT}")
    step = run(tmp_path, monkeypatch, WARNS, 120)
    assert (step["exit"], [test["result"] for test in step["tests"]]) == (0, ["passed"])


def test_a_file_that_cannot_be_collected_is_named_and_the_others_run(tmp_path, monkeypatch):
    (tmp_path / "test_broken.py").write_text("import not_installed\n")
    (tmp_path / "test_left.py").write_text("import pytest\npytest.importorskip('not_there')\n")
    broken, left = (str(tmp_path / f"test_{name}.py") for name in ("broken", "left"))
    step = run(tmp_path, monkeypatch, WARNS, 120, broken, left)
    found = {Path(test["test"]).name: test for test in step["tests"]}
    assert {name: test["result"] for name, test in found.items()} == {
        "test_broken.py": "failed",
        "test_left.py": "skipped",
        "test_some.py::test_warns": "passed",
    }
    assert "not_installed" in found["test_broken.py"]["why"]
    assert "not_there" in found["test_left.py"]["why"]
    assert step["exit"] == 1


def test_what_the_driver_refuses_is_no_finding_of_the_sanitizer():
    under = [step.under for step in PARTS["kernels"] if step.under]
    assert len(under) == 2
    assert all("--report-api-errors no" in " ".join(each) for each in under)


def test_a_step_ends_at_its_time_limit(tmp_path, monkeypatch):
    step = run(tmp_path, monkeypatch, HANGS, 1)
    assert step["exit"] == "stopped at the time limit" and step["seconds"] < 30


def test_a_bundle_is_measured_without_torch(tmp_path, monkeypatch):
    """As on a Jetson; in the rehearsal on the CPU."""
    _make_world(tmp_path / "toy.bundle")
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(parts, "find_gpu", lambda: ("a GPU", ""))
    bundle = ["--bundle", str(tmp_path / "toy.bundle")]
    command = ["bench", "--without-torch", "--rehearsal", "--folder", str(tmp_path)]
    assert main(command) == 1
    document = json.loads((tmp_path / "gpu-bench.json").read_text())
    assert document["status"] == "nothing ran"
    assert "needs a bundle; pass BUNDLE=" in document["left_out"][1]["why"]
    assert main([*command, *bundle]) == 0
    rows = json.loads((tmp_path / "gpu-bench-ort.json").read_text())["rows"]
    assert {row["batch"] for row in rows if "batch" in row} == {1}


ENDED = """if True:
    import sys
    from benchmarks.gpu import parts
    from benchmarks.gpu.steps import Step

    parts.find_gpu = lambda: ("a GPU", "")
    parts.PARTS["kernels"] = (Step((), (sys.argv[1],)),)
    sys.exit(parts.main(["kernels", "--folder", sys.argv[2]]))
"""


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_part_that_is_ended_leaves_nothing_running_and_its_json(tmp_path, sent):
    test, out, running = (tmp_path / name for name in ("test_some.py", "out", "running"))
    test.write_text(HANGS)
    env = {**os.environ, "RUNNING": str(running), "PYTEST_ADDOPTS": "-o markers=gpu"}
    command = [sys.executable, "-c", ENDED, str(test), str(out)]
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL) as part:
        try:
            while not running.is_file() or not running.read_text():
                assert part.poll() is None
                time.sleep(0.1)
            tests = int(running.read_text())
            same = os.getsid(tests) == os.getsid(part.pid)
            part.send_signal(sent)
            status = part.wait(30)
        finally:
            part.kill()
    left = Path(f"/proc/{tests}").exists()
    if left:
        os.kill(tests, signal.SIGKILL)
    assert same, "what ends our session ends the tests as well"
    assert status != 0 and not left
    document = json.loads((out / "gpu-kernels.json").read_text())
    assert document["status"] == document["steps"][0]["exit"] == "interrupted"


def test_a_folder_that_takes_no_file_is_one_line(tmp_path, capsys):
    (tmp_path / "gpu-kernels.tmp").mkdir()
    with pytest.raises(SystemExit, match=r"^error: cannot write '.*gpu-kernels.json': Is a dir"):
        main(["kernels", "--folder", str(tmp_path)])


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path, capsys):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as ended:
        main(["kernels", "--folder", str(tmp_path / "file")])
    assert ended.value.code == 2
    assert "cannot use --folder" in capsys.readouterr().err.splitlines()[-1]
