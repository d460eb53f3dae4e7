"""A sweep does every run once, goes on where it stopped, and tells what failed."""

import json
import logging
import os
import re
import signal
import threading
import time
from dataclasses import replace

import pytest
from click.testing import CliRunner

from adapt.artifacts import store
from adapt.artifacts.artifact import Artifact
from adapt.cli import main
from adapt.sweep.jobs import check, plan
from adapt.sweep.run import Outcome, collect, in_turn, run
from runtime.errors import BackendError, ConfigError, DataError, StorageError, TrainingError
from runtime.storage.locks import exclusive
from tests.adapt.offices import TINY, arguments, office31

TASKS = ("a-d", "d-a")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return office31(tmp_path_factory.mktemp("offices") / "office31")


def jobs(root, out, tasks=TASKS, seeds=(0, 1), settings=(), **more):
    return plan(
        "source_only", "office31", tasks, seeds, out=out, settings=[*TINY, *settings], root=root,
        threads=1, **more,
    ).jobs  # fmt: skip


def sweep(*arguments, code=0):
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == code, result.output
    return result


def test_a_plan_has_every_task_of_a_seed_before_the_next_seed(tmp_path):
    found = plan("cmkd", "office31", (), (0, 7), out=tmp_path).jobs
    tasks = ("a-d", "a-w", "d-a", "d-w", "w-a", "w-d")
    assert [(job.task, job.config.seed) for job in found] == [
        (task, seed) for seed in (0, 7) for task in tasks
    ]
    last = found[-1].path.relative_to(found[0].out.parent)
    assert str(last) == "seed7/office31/w-d/cmkd/artifact.safetensors"


def test_other_settings_go_elsewhere_and_the_same_ones_to_the_same_place(tmp_path):
    def folder(*settings, tasks=(), seeds=(0,), presets=(), device="cpu"):
        found = plan(
            "cmkd", "office31", tasks, seeds, out=tmp_path, settings=settings, presets=presets,
            device=device,
        )  # fmt: skip
        return found.folder

    same = folder()
    assert same.parent == tmp_path / "office31" and same.name.startswith("cmkd-")
    assert same == folder(tasks=["w-a"]) == folder(seeds=[5]) == folder(device="cuda")
    assert same == folder("lr=3e-6") != folder("lr=1e-6")
    assert len({same, folder("rst=true"), folder(presets=["rn50"]), folder("lr=1e-6")}) == 4
    assert folder("rst=true").name.startswith("cmkd-rst-")


def test_a_plan_takes_what_the_settings_say_of_a_task(tmp_path):
    found = {job.task: job.config for job in plan("cmkd", "digits", (), (0,), out=tmp_path).jobs}
    assert {task: config.rotate for task, config in found.items()} == {
        "s-m": 0, "u-m": 10, "m-u": 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("method", "dataset", "tasks", "seeds", "error", "message"),
    [
        ("cmkd", "office31", ("a-d", "a-d"), (0,), ConfigError, "task 'a-d' given twice"),
        ("cmkd", "office31", (), (1, 1), ConfigError, "seed '1' given twice"),
        ("cmkd", "office32", (), (0,), DataError, "unknown data set 'office32'"),
        ("dann", "office31", (), (0,), ConfigError, "unknown method 'dann'"),
        ("cmkd", "mini-domainnet", (), (0,), ConfigError, "no settings for method 'cmkd'"),
    ],
)
def test_an_impossible_plan_is_one_clear_line(
    method, dataset, tasks, seeds, error, message, tmp_path
):
    with pytest.raises(error, match=message):
        plan(method, dataset, tasks, seeds, out=tmp_path)


def test_bad_data_is_found_before_anything_trains(root, tmp_path):
    found = [*jobs(root, tmp_path), *jobs(root / "amazon", tmp_path, tasks=["d-w"])]
    with pytest.raises(DataError, match="no folder of the domain 'dslr'"):
        check(found)
    assert list(tmp_path.iterdir()) == []
    check(jobs(root, tmp_path))
    on_gpu = jobs(root, tmp_path, device="cuda:99")
    with pytest.raises(BackendError, match="cuda:99"):
        check(on_gpu)
    check(on_gpu, here=False)


def test_what_is_odd_about_a_domain_is_told_once(root, tmp_path, capsys):
    check(jobs(root, tmp_path, tasks=("a-d", "a-w", "d-a", "w-a")))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(set(lines)) == 3
    assert lines[0].startswith("office31: domain 'amazon' has 8 images of 2 classes, published")


def test_a_finished_run_is_left_as_it_is(root, cache, tmp_path):
    first, second = jobs(root, tmp_path)[:2]
    done = run(first)
    assert (done.fresh, done.error) == (True, None)
    before = first.path.stat().st_mtime_ns, first.path.read_bytes()
    again = run(first)
    assert (again.fresh, again.accuracy) == (False, done.accuracy)
    assert (first.path.stat().st_mtime_ns, first.path.read_bytes()) == before
    assert not second.path.exists()
    assert done.accuracy == Artifact.load(first.path).metrics["last"]["accuracy"]


def test_the_command_trains_once_and_prints_and_writes_the_table(root, cache, tmp_path):
    more = ("--method", "source_only", "--tasks", "a-d,d-a", "--seeds", "0,1", "--rst")
    first = sweep(*arguments(root, tmp_path, *more))
    assert "(already finished)" not in first.output
    again = sweep(*arguments(root, tmp_path, *more))
    assert again.output.count("% last epoch (already finished)") == 4
    assert again.output.count("domain 'amazon' has 8 images of 2 classes") == 1
    assert "no published row: papers have office31 with RN50, " in again.stdout
    assert "these runs are of demo-rn32 on 2 tasks" in again.stdout
    assert again.stdout == first.stdout
    (folder,) = (tmp_path / "office31").iterdir()
    table = json.loads((folder / "table.json").read_text())
    runs = [Artifact.load(folder / row["path"]) for row in table["runs"]]
    assert [(a.task.id, a.seed) for a in runs] == [(t, s) for s in (0, 1) for t in TASKS]
    last = table["tables"][0]["lines"][0]
    assert last["label"] == "source_only-rst, last"
    for task in TASKS:
        own = [a.metrics["last"]["accuracy"] for a in runs if a.task.id == task]
        assert last["values"][task] == own
    assert table["failed"] == [] and set(table["settings"]) == set(TASKS)
    markdown = (folder / "table.md").read_text()
    assert "| source_only-rst, oracle-best |" in markdown
    assert f"| {sum(last['values']['a-d']) / 2:.1f}±" in markdown


def test_ctrl_c_stops_the_sweep_and_the_same_command_goes_on(root, cache, tmp_path):
    settings = ("epochs=12", "train_encoder=false")
    whole = jobs(root, tmp_path / "whole", settings=settings, seeds=[0])
    cut = jobs(root, tmp_path / "cut", settings=settings, seeds=[0])
    assert run(whole[0]).fresh
    checkpoint = cut[0].path.with_name("checkpoint.safetensors")

    def stop():
        while not checkpoint.exists():
            time.sleep(0.002)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=stop, daemon=True).start()
    line = arguments(
        root, tmp_path / "cut", "--method", "source_only", "--tasks", "a-d,d-a", "--seeds", "0",
        settings=settings,
    )  # fmt: skip
    stopped = sweep(*line, code=1)
    assert "interrupted in a-d seed 0, everything is saved; run the same comm" in stopped.output
    assert checkpoint.exists() and not cut[1].path.exists()
    assert "━" not in sweep(*line).output  # not a terminal
    assert cut[0].path.read_bytes() == whole[0].path.read_bytes() and cut[1].path.exists()
    assert "resumed at iteration" in cut[0].path.with_name("train.log").read_text()


def test_ctrl_c_between_two_runs_is_one_clear_line(root, tmp_path):
    class Impatient(logging.Handler):
        def emit(self, record):
            raise KeyboardInterrupt

    handler = Impatient()
    logging.getLogger("adapt").addHandler(handler)
    try:
        stopped = sweep(*arguments(root, tmp_path, "--tasks", "a-d", "--seeds", "0"), code=1)
    finally:
        logging.getLogger("adapt").removeHandler(handler)
    assert "interrupted between two runs; run the same command again" in stopped.stderr
    assert "Aborted!" not in stopped.output


def test_the_epoch_that_a_score_chose_is_told_beside_the_last(root, cache, tmp_path):
    more = ("--method", "source_only", "--tasks", "a-d", "--seeds", "0", "--select", "infomax")
    output = sweep(*arguments(root, tmp_path, *more)).output
    assert re.search(r"a-d seed 0: [\d.]+ % chosen epoch, [\d.]+ % last epoch\n", output)


def test_one_failure_is_told_at_the_end_and_stops_no_other(root, cache, tmp_path):
    found = jobs(root, tmp_path, seeds=[0])
    found[0].path.parent.mkdir(parents=True)
    found[0].path.with_name("checkpoint.safetensors").write_bytes(b"damaged")
    line = arguments(
        root, tmp_path, "--method", "source_only", "--tasks", "a-d,d-a", "--seeds", "0"
    )
    result = sweep(*line, code=1)
    assert found[1].path.exists() and not found[0].path.exists()
    assert result.stderr.count("failed: a-d seed 0: ") == 1
    assert "error: 1 of 2 runs failed, see above; run the same command" in result.stderr
    table = json.loads((found[0].out.parent / "table.json").read_text())
    assert [row["run"] for row in table["failed"]] == ["a-d seed 0"]
    assert table["tables"][0]["lines"][0]["averages"] == []  # not of one task alone
    assert "-  " in result.stdout


def test_a_run_that_is_trained_by_somebody_else_is_told_and_stops_no_other(root, cache, tmp_path):
    found = jobs(root, tmp_path, seeds=[0])
    with exclusive(found[0].path.with_name(store.LOCK)):
        outcomes = list(collect(in_turn(found, lambda job: None), 2))
    assert f"process {os.getpid()} on this machine is training in '" in outcomes[0].error
    assert outcomes[1].error is None and outcomes[1].fresh


def test_a_bug_in_one_run_leaves_its_traceback(root, cache, tmp_path):
    job = jobs(root, tmp_path)[0]
    outcome = run(replace(job, device=3))
    assert outcome.kind == "TypeError" and "failure.txt" in outcome.error
    assert "Traceback" in job.path.with_name("failure.txt").read_text()


def test_a_bug_whose_traceback_cannot_be_written_is_an_outcome_too(root, cache, tmp_path):
    job = jobs(root, tmp_path)[0]
    job.path.with_name("failure.txt").mkdir(parents=True)  # nothing can be put in its place
    outcome = run(replace(job, device=3))
    assert outcome.kind == "TypeError" and "traceback is lost: cannot write" in outcome.error


def outcomes(jobs, *kinds):
    for job, kind in zip(jobs, kinds, strict=False):
        yield Outcome(job, error=f"a {kind}" if kind else None, kind=kind)


@pytest.mark.parametrize(
    ("kinds", "seen"),
    [
        (("A", "A", ""), 2),
        (("A", "B", "A", "A"), 4),
        (("", "A", "A", "A"), 4),
        (("A", "", "A", "A"), 4),
    ],
)
def test_only_a_start_of_equal_failures_ends_a_sweep(kinds, seen, root, tmp_path):
    found = jobs(root, tmp_path)
    done = []
    if seen == 2:
        with pytest.raises(TrainingError, match="the first 2 runs failed .* d-a seed 0: a"):
            done.extend(collect(outcomes(found, *kinds), 4))
    else:
        done.extend(collect(outcomes(found, *kinds), 4))
    assert len(done) == seen


def test_failures_of_one_task_alone_end_no_sweep_of_several(root, tmp_path):
    found = jobs(root, tmp_path, seeds=(0, 1, 2))
    first = [job for job in found if job.task == "a-d"]
    rest = [job for job in found if job.task != "a-d"]
    good = list(collect(outcomes([*first, *rest], *"AAA", "", "", ""), 6, 2))
    assert len(good) == 6
    with pytest.raises(TrainingError, match="the first 4 runs failed in the same way"):
        list(collect(outcomes([*first, *rest], *"AAAAAA"), 6, 2))


def test_a_full_disk_ends_a_sweep(root, tmp_path):
    kinds = ("", "StorageError", "")
    with pytest.raises(StorageError, match="d-a seed 0: a StorageError"):
        list(collect(outcomes(jobs(root, tmp_path), *kinds), 4))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--seeds", "0,x"), "is not a list of numbers like 0,1,2"),
        (("--seeds", "-1"), "is not a list of numbers like 0,1,2"),
        (("--seeds", "9" * 20), "is not a list of numbers like 0,1,2, each below 2^63"),
        (("--seeds", "9" * 5000), "is not a list of numbers like 0,1,2"),
        (("--seeds", ""), "is not a list of numbers like 0,1,2"),
        (("--workers", "2"), "--workers needs --ray without an address"),
        (("--density", "2"), "must be a share of the encoder's weights"),
    ],
)
def test_a_wrong_option_is_a_usage_error(options, message, tmp_path):
    result = sweep("sweep", "--dataset", "demo-digits", "--out", str(tmp_path), *options, code=2)
    assert message in result.output
    assert list(tmp_path.iterdir()) == []


def test_several_methods_have_a_table_each(root, cache, tmp_path):
    more = ("--method", "zero_shot,source_only", "--tasks", "a-d", "--seeds", "0")
    result = sweep(*arguments(root, tmp_path, *more, settings=("train_encoder=false",)))
    lines = [line.partition(":")[0] for line in result.stderr.splitlines() if " seed 0: " in line]
    assert lines == ["a-d zero_shot seed 0", "a-d source_only seed 0"]
    kinds = [path.name.partition("-")[0] for path in sorted((tmp_path / "office31").iterdir())]
    assert kinds == ["source_only", "zero_shot"]
    for kind in kinds:
        assert f"\n{kind}, last " in result.stdout and "/table.json'\n" in result.stdout
