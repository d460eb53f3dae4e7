"""`uda-runtime bench --compare`, with a process for each candidate."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from runtime.backends import BACKENDS
from runtime.benchmark.compare.bundles import common_tasks
from runtime.benchmark.compare.candidates import Candidate, candidates, missing_precisions
from runtime.benchmark.compare.comparison import Comparison
from runtime.benchmark.compare.measured import ComparePlan
from runtime.benchmark.compare.process import Failure, TrialProcess
from runtime.benchmark.compare.questions import form_of, noise
from runtime.benchmark.compare.report import report
from runtime.benchmark.compare.trial import Trial
from runtime.bundles import bundle as bundles
from runtime.bundles.bundle import Bundle
from runtime.cli import main
from runtime.commands.compare import _run as run_to_the_end
from runtime.errors import BackendError, DataError, StorageError, TaskError
from tests.runtime.helpers import newer

ROOT = Path(__file__).parents[2]
QUICK = ("--compare", "--samples", 4, "--warmup", 0, "--threads", 1)


def run(*args):
    return CliRunner().invoke(main, [str(a) for a in args], catch_exceptions=False)


def rewritten(world, name, tasks, precision="fp32"):
    """Write another bundle of the world's base, with these tasks."""
    path = world.path.with_name(name)
    bundles.write(path, **{**world.parts, "tasks": list(tasks), "precision": precision})
    return path


def test_two_bundles_and_every_strategy_in_one_table(world, tmp_path):
    other = rewritten(world, "other.bundle", (newer(task) for task in world.tasks.values()))
    files = tmp_path / "found.json", tmp_path / "found.md"
    only = ("--backend", "ort", "--device", "cpu")
    options = (*only, "--batch", 2, "--json", files[0], "--markdown", files[1])
    done = run("bench", world.path, other, *QUICK, *options)
    assert done.exit_code == 0, done.output
    assert done.stdout.endswith(f"\nwrote     {files[0]}, {files[1]}\n")
    found = json.loads(files[0].read_text())
    assert [(row["bundle"], row["strategy"]) for row in found["rows"]] == [
        (str(path), strategy) for path in (world.path, other) for strategy in ("patch", "engines")
    ]
    for row in found["rows"]:
        for times in (row["predict_ms"], row["switch_ms"]):
            assert times["samples"] == 4 and 0 < times["min"] <= times["p50"] <= times["p99"]
        assert len(row["round_ms"]) == found["rounds"] == 4
        assert row["images_per_second"] > 0 and row["peak_rss_bytes"] > 10_000_000
        assert row["version"].startswith("onnxruntime ") and row["device_bytes"] is None
        assert row["answers"]["frames"] == 3 * 16
    mine, engines, *theirs = found["rows"]
    assert mine["reference"] and not engines["reference"]
    assert mine["problem"] == engines["problem"] == ""
    # It has the same encoder and other heads.
    assert all(row["problem"].startswith("differs by") for row in theirs)
    assert found["rows"][found["choice"]]["bundle"] == str(world.path)
    assert "precision fp16, bf16: " in done.output
    assert f"choose {world.path} with --backend ort --device cpu --strategy " in done.output
    assert files[1].read_text().startswith("| candidate | precision | p50 ms |")


def test_what_does_not_run_here_is_a_line_with_its_reason_and_is_not_tried_twice(
    world, no_driver, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    done = run("bench", world.path, *QUICK, "--device", "cuda", "--json", "-")
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    first, second, *_ = found["left_out"]
    assert first["what"] == "ort cuda patch, ort cuda engines"
    assert second["what"] == "trt cuda patch, trt cuda engines"
    # What is missing first, onnxruntime-gpu, TensorRT or the driver, depends on the machine.
    assert "; install" in first["reason"] and "install" in second["reason"]
    assert done.stderr.splitlines()[-1] == (
        "error: none of these ways runs here; see above for the reasons"
    )
    assert not list(tmp_path.glob("-"))


def comparison(world, **plan):
    ways = candidates([Bundle.open(world.path)], backend="ort", device="cpu")
    plan = ComparePlan(tuple(world.tasks), samples=3, warmup=0, threads=1, **plan)
    frame = np.zeros((20, 20, 3), np.uint8)
    return Comparison(plan, ways, frame, lambda *step: None)


def test_a_candidate_that_is_killed_is_left_out_and_the_others_are_measured(world):
    forms = [form_of([Bundle.open(world.path)], "a-c")]
    with comparison(world) as compared:
        compared.start()
        victim = compared._processes[compared.measured[0].candidate]._process
        os.kill(victim.pid, signal.SIGKILL)
        compared.measure()
        compared.answer(noise(forms), 16)
        other = compared._processes[compared.measured[1].candidate]._process
    assert other.poll() is not None, "none outlives the comparison"
    found = report(compared, noise=True, interrupted=False, left_out=[])
    (row,) = found["rows"]
    assert row["strategy"] == "engines" and row["predict_ms"]["samples"] == 3
    (left,) = found["left_out"]
    assert left["what"] == "ort cpu patch"
    assert left["reason"].startswith("its process was killed, as the system does where memory")
    assert row["reference"], "another one takes its place"
    assert found["rows"][found["choice"]] is row and "the only one that" in found["sentences"][0]


def test_a_candidate_that_ends_while_it_answers_keeps_what_was_compared(world):
    forms = [form_of([Bundle.open(world.path)], task) for task in ("a-b", "a-c")]

    def asked():
        for number, question in enumerate(noise(forms)):
            if number == 16:
                first = compared._processes[compared.measured[0].candidate]._process
                os.kill(first.pid, signal.SIGKILL)
                first.wait()
            yield question

    with comparison(world) as compared:
        compared.start()
        compared.measure()
        compared.answer(asked(), 32)
    found = report(compared, noise=True, interrupted=False, left_out=[])
    (row,) = found["rows"]
    assert row["answers"]["frames"] == 16, "those that the reference gave as well"
    assert row["problem"] == "" and found["choice"] == 0


def test_a_process_that_fails_says_so_with_its_last_words(world):
    process = TrialProcess("run this")
    try:
        with pytest.raises(Failure, match=r"crashed \(KeyError: 'tasks'\); to see more, run: run"):
            process.ask("open", np.zeros((4, 4, 3), np.uint8))
    finally:
        process.close()


@pytest.mark.parametrize("strategy", ["patch", "engines"])
def test_a_trial_answers_as_numpy_computes(world, frame, strategy):
    session = {"path": str(world.path), "threads": 1, "strategy": strategy, "device": "cpu"}
    setup = {"session": session, "tasks": ["a-c", "a-b"], "batch": 2, "warmup": 1}
    trial = Trial(setup, frame)
    try:
        for task in ("a-b", "a-c"):
            (want,) = world.logits(task, frame[None])
            np.testing.assert_allclose(trial.answer(task, frame), want, rtol=1e-4, atol=1e-2)
        found = trial.turn(calls=3, batches=2)
        assert {kind: len(times) for kind, times in found.items()} == {
            "predict": 3,
            "batch": 2,
            "switch": 3,
        }
        assert trial.opened["task_bytes"] == trial.session.task_bytes > 0
        assert sorted(trial.session.resident) == ["a-b", "a-c"]
        assert trial.memory()["device_bytes"] is None
    finally:
        trial.close()


def test_tasks_that_do_not_fit_into_the_memory_are_refused_before_it_is_full(
    world, frame, monkeypatch
):
    monkeypatch.setattr("runtime.benchmark.compare.trial._free_memory", lambda: 10)
    session = {"path": str(world.path), "threads": 1, "strategy": "engines", "device": "cpu"}
    with pytest.raises(BackendError, match="only 1 of 2 tasks fit .*; compare fewer with --"):
        Trial({"session": session, "tasks": ["a-b", "a-c"], "batch": 2, "warmup": 0}, frame)


def test_a_frame_that_no_task_can_use_ends_it_with_one_line(mixed):
    with comparison(mixed) as compared:
        compared._frame = np.zeros((2, 900, 3), np.uint8)
        compared.plan = replace(compared.plan, tasks=("a-c",))
        with pytest.raises(DataError, match="900 x 2 pixels is too narrow to crop"):
            compared.start()


class Fewer(list):
    """Questions of which the last ones cannot be read."""

    def __iter__(self):
        yield from list.__iter__(self)
        raise StorageError("cannot read 'x.png': too many open files; raise the limit (ulimit -n)")


def test_images_that_cannot_be_read_any_more_keep_what_was_measured(world):
    questions = Fewer(noise([form_of([Bundle.open(world.path)], "a-c")]))
    with comparison(world) as compared:
        early = run_to_the_end(compared, questions)
    assert isinstance(early, StorageError)
    found = report(compared, noise=False, interrupted=True, left_out=[])
    assert [row["answers"]["frames"] for row in found["rows"]] == [16, 16]
    assert found["choice"] is not None


def test_an_interrupt_shows_what_was_measured(world, tmp_path):
    out = tmp_path / "found.json"
    words = ["bench", world.path, "--compare", "--device", "cpu", "--samples", 10**6, "--json", out]
    process = subprocess.Popen(
        [sys.executable, "-m", "runtime", *map(str, words)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    while "measuring" not in (line := process.stderr.readline()):
        assert line, "it ended before"
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and errors.splitlines()[-1] == (
        "error: interrupted; what was measured until then is shown above"
    )
    assert "ort cpu patch" in output and "interrupted: this is what was measured" in output
    assert json.loads(out.read_text())["interrupted"] is True


def test_an_interrupt_while_the_processes_end_loses_nothing(world, tmp_path, monkeypatch):
    ended, close = [], TrialProcess.close

    def interrupted(process):
        close(process)
        if not ended:
            ended.append(process)
            raise KeyboardInterrupt

    monkeypatch.setattr(TrialProcess, "close", interrupted)
    out = tmp_path / "found.json"
    only = ("--backend", "ort", "--device", "cpu", "--json", out)
    done = run("bench", world.path, *QUICK, *only)
    assert done.exit_code == 130
    assert "error: interrupted; what was measured until then is shown above" in done.stderr
    rows = json.loads(out.read_text())["rows"]
    assert [row["strategy"] for row in rows] == ["patch", "engines"]
    assert all(row["answers"]["frames"] for row in rows)


def test_labels_that_are_no_classes_are_named(world, tmp_path):
    Image.new("RGB", (16, 16)).save(tmp_path / "a.png")
    (tmp_path / "list.txt").write_text("a.png\tsock\n")
    only = ("--backend", "ort", "--device", "cpu", "--strategy", "patch")
    done = run("bench", world.path, *QUICK, *only, "--images", tmp_path / "list.txt")
    assert done.exit_code == 0 and "accuracy" not in done.stdout
    assert "no accuracy: the labels are not classes of the tasks, for example 'sock'; " in (
        done.stderr
    )


def test_answers_to_images_are_compared_for_the_tasks_that_their_folders_fit(world, tmp_path):
    task = world.tasks["a-c"]
    other = replace(
        world.tasks["a-b"], info=replace(world.tasks["a-b"].info, classes=("cat", "dog"))
    )
    path = rewritten(world, "pets.bundle", [other, task])
    root, right = tmp_path / "root", 0
    draw = np.random.default_rng(1)
    for number in range(9):
        label = number % len(task.info.classes)
        frame = draw.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        (folder := root / task.info.classes[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(frame).save(folder / f"{number}.png")
        right += int(world.logits("a-c", frame[None]).argmax()) == label
    (folder / "broken.png").write_bytes(b"no image")
    os.mkfifo(folder / "pipe.png")
    (folder / "notes.xyz").touch()
    Image.new("RGB", (16, 16)).save(root / "loose.png")
    out = tmp_path / "found.json"
    done = run("bench", path, *QUICK, "--device", "cpu", "--images", root, "--json", out)
    assert done.exit_code == 0, done.output
    assert "found 11 images; left out 2: .xyz 1, pipes and devices 1" in done.stderr
    found = json.loads(out.read_text())
    assert found["compared_on"] == "images" and found["frame"] == "16x16"
    assert [*found["unread"]] == [str(folder / "broken.png")]
    assert "1 image could not be compared, the first: cannot read the image" in done.stdout
    for row in found["rows"]:
        assert row["answers_by_task"].keys() == {"a-c"}
        counts = row["answers"]
        assert (counts["frames"], counts["same_top_class"]) == (10, 10)
        assert (counts["labelled"], counts["right"]) == (9, right)
        assert counts["accuracy"] == pytest.approx(100 * right / 9)
    assert f"{100 * right / 9:.1f} %" in done.stdout and "10/10" in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["OTHER"], "expected one bundle, found 2; add --compare"),
        (["--markdown", "x.md"], "--markdown goes with --compare"),
        (["--compare", "--frames", "2"], "--frames does not go with --compare"),
        (["--compare", "--batch", "2", "--batch", "3"], "--compare takes one --batch, found 2"),
        (["--compare", "--json", "x", "--markdown", "x"], "--json and --markdown both name 'x'"),
        (["--compare", "--json", "-", "--markdown", "-"], "both name '-'; choose two paths"),
        (["--images", "x"], "--images goes with --compare"),
        (["--compare", "--images", "nowhere"], "none of the images can be read, the first: "),
        (["--compare", "WORLD"], "is named twice"),
        (["--compare", "nowhere"], "the bundle 'nowhere' does not exist"),
        (["--compare", "--task", "x-y"], "has no task 'x-y'; available: a-b, a-c, a-d"),
        (["--compare", "--tasks", "9"], "--tasks 9 needs as many tasks, found 3"),
        (["--compare", "--device", "npu"], "unknown device 'npu'; available: cpu, cuda"),
        (["--compare", "--backend", "trt", "--device", "cpu"], "backend 'trt' runs on a GPU"),
        (["--compare", "--threads", "100000"], "threads must be a whole number from 1 to"),
        (["--compare", "--engines", ""], "the folder of engines must have a name"),
        (["--compare", "CLASSES"], "task 'a-b' has other classes in"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_measured(world, options, message):
    names = {"OTHER": rewritten(world, "other.bundle", world.tasks.values()), "WORLD": world.path}
    first = world.tasks["a-b"]
    renamed = replace(first, info=replace(first.info, classes=("one", "two")))
    names["CLASSES"] = rewritten(world, "classes.bundle", [renamed])
    done = run("bench", world.path, *(names.get(each, each) for each in options))
    assert done.exit_code == 1
    assert done.stderr.startswith("error: ") and message in done.stderr
    assert done.stderr.count("\n") == 1


def test_tasks_that_only_some_bundles_have_are_left_out_by_name(world):
    some = rewritten(world, "some.bundle", [world.tasks["a-c"]])
    opened = [Bundle.open(world.path), Bundle.open(some)]
    tasks, left_out = common_tasks(opened, (), None)
    assert tasks == ("a-c",)
    assert [each["what"] for each in left_out] == ["task a-b", "task a-d"]
    assert f"'{some}' has no such task" in left_out[0]["reason"]
    none = rewritten(world, "none.bundle", [world.tasks["a-b"]])
    with pytest.raises(TaskError, match="have no task in common"):
        common_tasks([opened[1], Bundle.open(none)], (), None)


def test_the_defaults_come_first_and_what_is_named_is_all_that_is_tried(world):
    opened = [Bundle.open(world.path)]
    every = candidates(opened)
    assert every[0] == Candidate(world.path, "fp32", "ort", "cpu", "patch") and every[0].default
    assert {own.name for own in every} == {
        f"{backend} {device} {strategy}"
        for backend, entry in BACKENDS.items()
        for device in entry.devices
        for strategy in ("patch", "engines")
    }
    (only,) = candidates(opened, backend="trt", device="cuda:1", strategy="engines")
    assert only.name == "trt cuda:1 engines"
    assert {own.backend for own in candidates(opened, device="cuda:1")} == {"ort", "trt"}
    (left,) = missing_precisions(opened)
    assert left["what"] == "precision fp16, bf16" and "--precision fp16" in left["reason"]


def test_rounds_share_out_every_sample():
    for samples in (2, 9, 10, 31, 100, 1007):
        plan = ComparePlan(("a-b",), samples=samples)
        calls = [plan.calls(number) for number in range(plan.rounds)]
        assert sum(calls) == samples and max(calls) - min(calls) <= 1 <= min(calls)
