"""The table of a sweep, from results whose figures are known."""

from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import pytest

from adapt import data, published
from adapt.sweep.jobs import plan
from adapt.sweep.report import Report
from adapt.sweep.results import Result, read
from adapt.sweep.run import run
from adapt.sweep.table import protocol, spread, tables
from adapt.training.history import read_history
from tests.adapt.offices import TINY, office31


def swept(dataset, method="cmkd", tasks=(), seeds=(0, 1, 2), presets=(), settings=(), drop=()):
    """Return the tables of a sweep whose run of seed s has 50 + s + position of its task."""
    jobs = plan(
        method, dataset, tasks, seeds, out=Path("sweeps"), presets=presets, settings=settings
    ).jobs
    names = list(dict.fromkeys(job.task for job in jobs))
    results = []
    for job in jobs:
        value = 50.0 + job.config.seed + names.index(job.task)
        row = {"accuracy": value, "mean_per_class": value + 5}
        best = {"accuracy": value + 1, "mean_per_class": value + 6}
        row["per_class"] = {name: value + n for n, name in enumerate(data.get("visda").classes)}
        found = Result(
            job.task, job.config.seed, job.path, {"last": row, "oracle-best": best},
            500_000, 0.1, "0" * 64,
        )  # fmt: skip
        if (job.task, job.config.seed) not in drop:
            results.append(found)
    return tables(jobs, results, data.tasks(dataset), published.load(dataset))


def line(table, label):
    return next(line for line in table.lines if line.label == label)


def test_columns_are_tasks_with_mean_and_deviation_over_the_seeds():
    (table,) = swept("office-home")
    assert table.columns == published.load("office-home").columns["tasks"]
    own = line(table, "cmkd, last")
    assert own.values["a-c"] == (50, 51, 52) and own.values["r-p"] == (61, 62, 63)
    assert own.averages == (55.5, 56.5, 57.5)
    assert own.stored == (6.0, 6.0, 6.0)
    cells = own.cells(table.columns)
    assert cells[:2] == ["cmkd, last", "51.0±1.0"] and cells[-2:] == ["56.5±1.0", "6"]
    assert line(table, "cmkd, oracle-best").values["a-c"] == (51, 52, 53)


def test_published_rows_of_the_same_backbone_stand_below_the_own_variant_first():
    (table,) = swept("office-home", settings=["rst=true"])
    labels = [line.label for line in table.lines]
    assert labels[:3] == ["cmkd-rst, last", "cmkd-rst, oracle-best", "CMKD + RST [cmkd]"]
    theirs = table.lines[2]
    assert theirs.values["a-c"] == (78.9,) and theirs.averages == (87.7,)
    assert theirs.stored == (1.02,)
    assert line(table, "CDU [readme-cdu]").averages == (90.1,)
    (other,) = swept("office-home", presets=["rn50"])
    assert line(other, "CMKD [cmkd]").averages == (79.3,)
    assert "DAPL [readme-dapl]" not in [line.label for line in other.lines]


def test_a_part_of_the_tasks_is_compared_with_that_part():
    (table,) = swept("office-home", tasks=["a-c", "p-r"])
    assert table.columns == ("a-c", "p-r")
    assert line(table, "CMKD [cmkd]").averages == ((79.4 + 92.1) / 2,)
    assert line(table, "CMKD [cmkd]").stored == ()
    assert not [line for line in table.lines if line.published and not line.values]


def test_a_missing_run_leaves_its_seed_out_of_the_mean():
    (table,) = swept("office31", drop=[("a-w", 1)])
    own = line(table, "cmkd, last")
    assert own.values["a-w"] == (51, 53) and own.values["a-d"] == (50, 51, 52)
    assert own.averages == (52.5, 54.5) and len(own.stored) == 2
    (table,) = swept("office31", drop=[("a-w", seed) for seed in range(3)])
    own = line(table, "cmkd, last")
    assert own.cells(table.columns)[2] == "-" and own.cells(table.columns)[-2:] == ["-", ""]


def test_visda_is_told_by_class_and_measured_by_their_mean():
    by_class, by_task = swept("visda", presets=["rn101"])
    assert by_class.columns == data.get("visda").classes and by_task.columns == ("s-r",)
    own = line(by_class, "cmkd, last")
    assert own.values["aeroplane"] == (50, 51, 52) and own.values["truck"] == (61, 62, 63)
    assert line(by_task, "cmkd, last").values["s-r"] == (55, 56, 57)
    assert line(by_class, "CMKD [cmkd]").values["truck"] == (63.4,)
    assert line(by_class, "UniMoS [unimos]").averages == (88.1,)
    assert "cmkd, oracle-best" not in [line.label for line in by_class.lines]


def test_domainnet_is_told_by_target_and_then_by_task():
    by_target, by_task = swept("domainnet")
    assert by_target.columns == tuple("cipqrs") and len(by_task.columns) == 30
    tasks = data.tasks("domainnet")
    expected = mean(51 + n for n, task in enumerate(tasks) if task.endswith("-q"))
    assert mean(line(by_target, "cmkd, last").values["q"]) == pytest.approx(expected)
    assert line(by_target, "CMKD [cmkd]").values["q"] == (20.6,)
    assert line(by_task, "UniMoS [unimos]").values["i-c"] == (76.5,)
    assert "CMKD [cmkd]: captions out of order" in by_target.notes()
    assert not [line for line in by_target.lines if line.label.startswith("CDU")]


def test_four_domains_of_domainnet_are_compared_with_their_own_figures():
    tasks = [task for task in data.tasks("domainnet") if not set(task) & set("iq")]
    (table,) = swept("domainnet", tasks=tasks)
    assert len(table.columns) == 12
    assert line(table, "CDU [readme-cdu]").averages == (78.0,)
    assert "CMKD [cmkd]" not in [line.label for line in table.lines]
    jobs = plan("cmkd", "domainnet", tasks[:2], [0], out=Path("sweeps")).jobs
    assert protocol(jobs[0], tasks[:2]) == "standard"


def test_the_partial_task_is_compared_with_partial_tasks_alone():
    (table,) = swept("office-home", presets=["partial"])
    assert line(table, "CMKD [cmkd-partial]").averages == (90.2,)
    assert not [line for line in table.lines if line.published and line.values]


@pytest.mark.parametrize("classes", [0, 10, 40])
def test_another_partial_task_than_the_papers_is_compared_with_nothing(classes):
    (table,) = swept("office-home", settings=["partial=true", f"target_classes={classes}"])
    assert table.lines and not [line for line in table.lines if line.published]


@pytest.mark.parametrize("holdout", [0.0, 0.2])
def test_only_a_sweep_with_held_out_images_says_that_papers_test_on_training_images(holdout):
    settings = [f"holdout={holdout}"]
    sweep = plan("cmkd", "office-home", ["a-c"], [0], out=Path("sweeps"), settings=settings)
    jobs = sweep.jobs
    row = {"accuracy": 50.0, "mean_per_class": 50.0}
    found = [Result("a-c", 0, jobs[0].path, {"last": row}, 500_000, 0.1, "0" * 64)]
    made = tables(jobs, found, data.tasks("office-home"), published.load("office-home"))
    text = Report(sweep, found, made, ()).text()
    assert ("published figures are transductive" in text) == bool(holdout)


def test_the_screen_shows_only_lines_that_fill_columns():
    (table,) = swept("office-home")
    text, whole = table.text(), table.text(every=True)
    assert "CMKD + FixMatch [cmkd]" in text and "CDU" not in text and "CDU" in whole
    (other,) = swept("office-home", method="unimos", presets=["vit-b16"])
    assert "UniMoS [unimos-backbones]" in other.text()  # its own, of which only the mean is known
    assert table.markdown().count("\n") == len(table.lines) + 2
    assert len({len(row.split(" | ")) for row in table.markdown().splitlines()}) == 1


@pytest.mark.parametrize(
    ("values", "text"),
    [((), "-"), ((79.34,), "79.3"), ((79.0, 80.0), "79.5±0.7"), ((70.0,) * 3, "70.0±0.0")],
)
def test_spread_is_the_sample_deviation(values, text):
    assert spread(values) == text
    if len(values) > 1:
        assert f"{stdev(values):.1f}" == text.split("±")[1]


def assert_best_of_the_artifact(job, artifact):
    """A run that lost its history has the figures of its best epoch from the artifact."""
    best = artifact.metrics["oracle_best"]
    for metric in ("accuracy", "mean_per_class"):
        found = read(job, metric)
        assert set(found.epochs) == {"last", "oracle-best"}
        assert found.figure("oracle-best", metric, "tasks", "a-d") == best[metric]


def test_a_result_says_what_the_run_left(tmp_path, cache):
    root = office31(tmp_path / "office31")
    (job,) = plan(
        "source_only", "office31", ["a-d"], [3], out=tmp_path / "out", root=root, threads=1,
        settings=[*TINY, "rst=true", "rst_threshold=1e-3", "epochs=3", "select=last"],
    ).jobs  # fmt: skip
    assert read(job, "accuracy") is None
    run(job)
    found = read(job, "accuracy")
    from adapt.artifacts.artifact import Artifact

    artifact = Artifact.load(job.path)
    # As CMKD's tables count: changed weights and the classifier, without the head's two norms.
    changed = sum(sparse.values.size for sparse in artifact.residual.values())
    assert found.stored == changed + 2 * artifact.head_weight.shape[1]
    scores = read_history(job.path.parent)[-1]["scores"]
    assert found.epochs["last"] == {**artifact.metrics["last"], "scores": scores}
    assert found.figure("last", "infomax", "tasks", "a-d") == scores["infomax"]
    assert found.epochs["oracle-best"]["accuracy"] == artifact.metrics["oracle_best"]["accuracy"]
    assert "selected" not in found.epochs
    for damaged in ("{", "[1]", '{"accuracy": "9"}'):
        job.path.with_name("metrics.jsonl").write_text(damaged)
        assert_best_of_the_artifact(job, artifact)
    job.path.with_name("metrics.jsonl").unlink()
    assert_best_of_the_artifact(job, artifact)
    again = replace(found, seed=4)
    assert (again.task, np.isfinite(again.density)) == ("a-d", True)


def test_a_budget_stands_first_above_the_row_that_papers_print_of_rst():
    (table,) = swept("office-home", settings=["rst=true", "rst_density=0.001", "grid=fp16"])
    labels = [line.label for line in table.lines]
    assert labels[0] == "cmkd-rst-d0.001-fp16, last" and labels[2] == "CMKD + RST [cmkd]"
    assert table.lines[2].own
