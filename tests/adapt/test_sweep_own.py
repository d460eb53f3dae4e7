"""A sweep over images of one's own: every task, method and seed, beside the baselines."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner, Result

from adapt.artifacts.artifact import Artifact
from adapt.cli import main
from adapt.settings.layers import COMMAND
from adapt.sweep.own import OwnSweep, plan_own
from adapt.sweep.own_report import OwnSweepReport
from adapt.sweep.results import Result as Figures
from runtime.errors import ConfigError, DataError
from tests.adapt.conftest import draw

TINY = (
    *("model=demo-rn32", "pretrained=demo", "batch_size=8", "epochs=2", "iterations=2"),
    *("lr=1e-3", "head_lr_multiplier=10.0", "train_size=36", "eval_batch_size=16"),
)


def planned(
    images: Path, out: Path, *names: str, settings: object = (), **more: object
) -> OwnSweep:
    options = {"sources": ["day"], "targets": ["night", "fog"], "seeds": [0, 1], **more}
    return plan_own(
        names or ("source_only",), images, out=out, settings=[*TINY, *settings], **options
    )  # type: ignore[misc]


def test_a_plan_has_every_method_and_task_of_a_seed_before_the_next_seed(
    images: Path, tmp_path: Path
) -> None:
    found = planned(images, tmp_path, "source_only", "unimos", seeds=[3, 0])
    each = ("linear_probe", "source_only", "unimos")
    assert [(job.config.seed, job.task, job.variant) for job in found.jobs] == [
        (seed, task, variant)
        for seed, variants in ((3, ("zero_shot", *each)), (0, each))  # which has no randomness
        for task in ("day-night", "day-fog")
        for variant in variants
    ]
    assert {job.dataset for job in found.jobs} == {"street"}
    assert str(found.jobs[0]) == "day-night zero_shot seed 3"
    seed = found.folder / "seed3"
    assert found.jobs[2].path == seed / "street/day-night/source_only/artifact.safetensors"
    held = planned(images, tmp_path, settings=["holdout=0.4"])
    assert len([job for job in held.jobs if job.method == "zero_shot"]) == 4  # other images each
    alone = planned(images, tmp_path, baselines=False)
    assert {job.method for job in alone.jobs} == {"source_only"}
    several = planned(images, tmp_path, sources=["day", "night"], targets=["day", "night", "fog"])
    assert list(several.pairs) == ["day-night", "day-fog", "night-day", "night-fog"]


def test_methods_targets_and_seeds_share_a_folder_and_settings_do_not(
    images: Path, tmp_path: Path
) -> None:
    one = planned(images, tmp_path)
    assert one.folder.parent == tmp_path / "street" and one.folder.name.startswith("own-")
    assert one.folder == planned(images, tmp_path, "cmkd", seeds=[5], targets=["fog"]).folder
    assert one.folder == planned(images, tmp_path, settings=["lr=0.001"]).folder
    others = [planned(images, tmp_path, settings=[s]).folder for s in ("lr=1e-4", "holdout=0.2")]
    assert len({one.folder, *others}) == 3


def test_settings_and_presets_go_to_the_methods_that_have_them(
    images: Path, tmp_path: Path
) -> None:
    found = planned(
        images, tmp_path, "cmkd", "unimos", "source_only", presets=["fixmatch"],
        settings=["rst=true", "lambda1=0.5", "prompt=a {}"],
    )  # fmt: skip
    by_method = {job.method: job.settings for job in found.jobs}
    cmkd, unimos = by_method["cmkd"].config, by_method["unimos"].config
    assert (cmkd.fixmatch, cmkd.lambda1, cmkd.rst, unimos.rst) == (0.5, 0.5, True, False)
    assert found.notes == (
        "rst=true does not apply to unimos",
        "lambda1=0.5 does not apply to unimos, source_only",
        "preset fixmatch does not apply to unimos, source_only",
    )
    assert {job.variant for job in found.jobs if job.method == "cmkd"} == {
        "cmkd-fixmatch-rst-d0.015",  # as train names it, which knows the number of images
    }
    for name in ("zero_shot", "linear_probe", "unimos"):
        assert (by_method[name].config.prompt, by_method[name].config.model) == ("a {}", cmkd.model)
    assert by_method["zero_shot"].sources["prompt"] == COMMAND


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ({"targets": ["night", "./night/"]}, ConfigError, "target 'night' given twice"),
        ({"seeds": [1, 1]}, ConfigError, "seed '1' given twice"),
        ({"targets": ["nigth"]}, DataError, "nigth' does not exist; did you mean 'night'"),
        ({"sources": ["fog"]}, DataError, "source '.*fog' has images but no class folders"),
        ({"settings": ["nothing=1"]}, ConfigError, "unknown key 'nothing'"),
        ({"presets": ["nothing"]}, ConfigError, "have no preset 'nothing'"),
        ({"settings": ["batch_size=28"]}, DataError, "27 training images, .* batch_size=27"),
        ({"sources": ["day", "night"], "targets": ["nothing"]}, DataError, "available: day"),
        ({"test": "fog"}, DataError, "the test images '.*fog' have no labels"),
    ],
)
def test_an_impossible_plan_is_one_clear_line_and_makes_nothing(
    images: Path, tmp_path: Path, more: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        planned(images, tmp_path, **more)
    assert list(tmp_path.iterdir()) == []


def test_two_domains_of_one_task_id_are_refused(tmp_path: Path) -> None:
    for name in ("day", "a b", "a_b"):
        draw(tmp_path / "street", name, 60, count=3)
    with pytest.raises(
        ConfigError, match="'a_b' and 'day' to 'a b' have the same task id 'day-a_b'"
    ):
        planned(tmp_path / "street", tmp_path, targets=["a b", "a_b"], settings=["batch_size=2"])


def sweep(images: Path, out: Path, *more: object, code: int = 0) -> Result:
    fixed = ["sweep", "--data", images, "--source", "day", "--out", out, "--threads", 1]
    pairs = [word for setting in TINY for word in ("--set", setting)]
    result = CliRunner().invoke(main, [str(word) for word in (*fixed, *pairs, *more)])
    assert result.exit_code == code, result.output
    return result


WORDS = ("--target", "night,fog", "--method", "source_only", "--set", "train_encoder=false")


@pytest.fixture(scope="module")
def swept(
    images: Path, uda_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Result]:
    """The folder of a sweep, and what it printed."""
    out, threads = tmp_path_factory.mktemp("sweeps"), torch.get_num_threads()
    result = sweep(images, out, *WORDS, "--seeds", "0,1")
    torch.set_num_threads(threads)
    (folder,) = (out / "street").iterdir()
    return folder, result


def artifacts(folder: Path, task: str, variant: str) -> list[Artifact]:
    return [
        Artifact.load(folder / f"seed{seed}/street/{task}/{variant}/artifact.safetensors")
        for seed in (0, 1)
    ]


def test_the_tables_hold_what_the_artifacts_do(swept: tuple[Path, Result]) -> None:
    folder, result = swept
    document = json.loads((folder / "table.json").read_text())
    accuracy, infomax = document["tables"]
    assert (accuracy["columns"], infomax["columns"]) == (["day-night"], ["day-fog"])
    lines = {line["label"]: line["values"] for line in accuracy["lines"]}
    assert list(lines) == [
        "zero_shot",
        *(f"{name}, {epoch}" for name in ("linear_probe", "source_only")
          for epoch in ("last", "chosen", "oracle-best")),
    ]  # fmt: skip
    for name in ("linear_probe", "source_only"):
        found = artifacts(folder, "day-night", name)
        for epoch, key in (
            ("last", "last"),
            ("chosen", "selected"),
            ("oracle-best", "oracle_best"),
        ):
            expected = [artifact.metrics[key]["accuracy"] for artifact in found]
            assert lines[f"{name}, {epoch}"]["day-night"] == expected
    chosen = lines["source_only, chosen"]["day-night"]
    shown = f"{mean(chosen):.1f}±{stdev(chosen):.1f}"
    assert re.search(rf"^source_only, chosen +{re.escape(shown)} ", result.stdout, re.M)
    assert f"| source_only, chosen | {shown} |" in (folder / "table.md").read_text()
    assert len(lines["zero_shot"]["day-night"]) == 1 and len(document["runs"]) == 2 + 4 + 4
    labels = [line["label"] for line in infomax["lines"]]
    assert labels[0] == "zero_shot" and not [label for label in labels if "oracle" in label]
    probe = next(line for line in infomax["lines"] if line["label"] == "linear_probe, last")
    history = (folder / "seed1/street/day-fog/linear_probe/metrics.jsonl").read_text().splitlines()
    assert probe["values"]["day-fog"][1] == json.loads(history[-1])["scores"]["infomax"]
    assert "tested on the target images adapted to: day-night, day-fog" in result.stdout
    assert "choosing a method by them uses these labels" in result.stdout
    assert [line[:13] for line in document["verdicts"]] == []  # source-only is a baseline too


def test_the_page_has_the_tables_and_the_runs_of_the_first_seed(
    swept: tuple[Path, Result],
) -> None:
    folder, result = swept
    page = (folder / "report.html").read_text()
    assert f"report     {folder / 'report.html'}" in result.stdout
    assert "source_only, chosen" in page and "covers all seeds, the rest of the page seed 0" in page
    assert "choosing a method by them uses these labels" in page


def test_the_same_command_finds_everything_and_more_trains_the_rest(
    images: Path, swept: tuple[Path, Result], tmp_path: Path
) -> None:
    folder = shutil.copytree(swept[0], tmp_path / "street" / swept[0].name)
    again = sweep(images, tmp_path, *WORDS, "--seeds", "0,1", "--no-report")
    assert again.output.count("(already finished)") == 10
    first = swept[1].stdout.replace(str(swept[0].parents[1]), str(tmp_path))
    assert again.stdout == re.sub(r"report     .*\n", "", first)
    shutil.rmtree(folder / "seed1" / "street" / "day-fog" / "source_only")
    more = sweep(images, tmp_path, *WORDS, "--seeds", "0,1", "--no-report")
    assert more.output.count("(already finished)") == 9
    assert more.stdout == again.stdout  # trained again, to the same figures
    restarted = sweep(
        images, tmp_path, *WORDS, "--seeds", "0", "--method", "zero_shot", "--restart",
        "--no-baselines", "--no-report",
    )  # fmt: skip
    assert "(already finished)" not in restarted.output
    assert restarted.output.count("zero_shot seed 0:") == 2
    assert "last epoch" not in restarted.output


def test_the_baselines_are_those_that_eval_measures(
    images: Path, swept: tuple[Path, Result], tmp_path: Path
) -> None:
    tables = json.loads((swept[0] / "table.json").read_text())["tables"]
    lines = {line["label"]: line["values"]["day-night"] for line in tables[0]["lines"]}
    own = Path("street", "day-night", "source_only")
    shutil.copytree(swept[0] / "seed0" / own, tmp_path / "artifacts" / own)
    words = ["eval", "--artifacts", tmp_path / "artifacts", "--json", tmp_path / "eval.json"]
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "eval.json").read_text())["variants"]
    accuracy = {line["variant"]: line["accuracy"] for line in found}
    assert accuracy["zero_shot"] == lines["zero_shot"][0]
    assert accuracy["linear_probe"] == lines["linear_probe, chosen"][0]


def test_changed_images_are_refused_with_a_way_out(
    swept: tuple[Path, Result], images: Path, tmp_path: Path
) -> None:
    shutil.copytree(swept[0], tmp_path / "out" / "street" / swept[0].name)
    changed = shutil.copytree(images, tmp_path / "street")
    shutil.copy(changed / "night/bee/bee1.png", changed / "night/bee/bee0.png")
    result = sweep(changed, tmp_path / "out", *WORDS, "--seeds", "0", "--no-report", code=1)
    assert "other images or labels (target, test); add --restart to replace it, or choose " in (
        result.stderr
    )
    assert result.stderr.count("failed: day-night zero_shot seed 0: ") == 1
    assert "or choose another --out\n" in result.stderr


def test_a_worker_on_another_machine_loads_the_same_images(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(images.parent)
    tested = planned(Path("street"), tmp_path, targets=["night"], test="street/night")
    job = tested.jobs[-1]
    there = pickle.loads(pickle.dumps(replace(job, root=job.root.absolute())))  # as on Ray
    monkeypatch.chdir(tmp_path)
    assert there.load().test.digest() == tested.pairs["day-night"].test.digest()
    assert there.load().given and there.path == job.path


def test_verdicts_compare_with_the_best_baseline_of_each_task() -> None:
    values = {"zero_shot": (40, 1), "linear_probe": (45, 2), "cmkd": (44, 3), "unimos": (46, 1)}
    results = {
        name: [
            Figures(task, seed, Path(), {"last": {metric: value + seed}}, 0, 0.0, "0" * 64)
            for task, metric, value in (("a-b", "accuracy", of[0]), ("a-c", "infomax", of[1]))
            for seed in (0, 1)
        ]
        for name, of in values.items()
    }
    pairs = {"a-b": None, "a-c": None}
    metrics = {"a-b": "accuracy", "a-c": "infomax"}
    report = OwnSweepReport(SimpleNamespace(pairs=pairs), results, metrics, [])  # type: ignore[arg-type]
    assert report.verdicts() == [
        "cmkd: better than its baselines on a-c; NOT better on a-b (44.5 against 45.5 of "
        "linear_probe)",
        "unimos: better than its baselines on a-b; NOT better on a-c (1.500 against 2.500 of "
        "linear_probe)",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "{}"], "say what to sweep: --dataset NAME, or your own images with --data"),
        (["--data", "{}", "--source", "day"], "say what to sweep"),
        (["--dataset", "demo-digits", "--source", "a"], "--source is for your own images"),
        (["--dataset", "demo-digits", "--no-baselines"], "--no-baselines is for your own images"),
        (["--data", "{}", "--source", "a", "--target", "b", "--tasks", "a-b"], "--tasks a-b needs"),
        (["--data", "{}", "--source", "a", "--target", "b,c", "--test", "d"], "one source and one"),
        (["--method", "cmkd,cmdk"], "'cmdk' is not one of"),
        (["--artifacts", "x"], "pass --out instead"),
    ],
)
def test_wrong_usage_is_explained(images: Path, words: list[str], message: str) -> None:
    result = CliRunner().invoke(main, ["sweep", *(word.format(images) for word in words)])
    assert result.exit_code == 2 and message in result.stderr


def test_a_domain_may_have_a_comma_in_its_name(tmp_path: Path, uda_cache: Path) -> None:
    root = tmp_path / "street"
    for name in ("day", "rain, snow"):
        draw(root, name, 60, count=3)
    words = ("--target", "rain, snow", "--method", "zero_shot", "--no-baselines", "--no-report")
    assert "day-rain__snow zero_shot seed 0" in sweep(root, tmp_path, *words).stderr


def test_zero_shot_is_the_same_whether_it_is_named_or_not(images: Path, tmp_path: Path) -> None:
    kinds = [("cmkd",), ("unimos", "zero_shot", "cmkd"), ("zero_shot",)]
    found = [planned(images, tmp_path, *names, settings=["prompt=a {}"]) for names in kinds]
    zero_shot = {
        (job.task, job.path, json.dumps(job.settings.values(), sort_keys=True))
        for sweep in found
        for job in sweep.jobs
        if job.method == "zero_shot"
    }
    assert len(zero_shot) == 2  # one for each task
    assert [job.method for job in found[1].jobs][:4] == [
        "zero_shot",
        "linear_probe",
        "unimos",
        "cmkd",
    ]


def test_a_damaged_artifact_costs_no_other_run_its_line_and_no_page(
    images: Path, swept: tuple[Path, Result], tmp_path: Path
) -> None:
    folder = shutil.copytree(swept[0], tmp_path / "street" / swept[0].name)
    path = folder / "seed0/street/day-night/source_only/artifact.safetensors"
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    result = sweep(images, tmp_path, *WORDS, "--target", "night", "--seeds", "0,1", code=1)
    assert result.stderr.count(f"failed: day-night source_only seed 0: '{path}' was altered") == 1
    assert "error: 1 of 5 runs failed, see above" in result.stderr
    (table,) = json.loads((folder / "table.json").read_text())["tables"]
    lines = {line["label"]: line["values"] for line in table["lines"]}
    assert len(lines["source_only, last"]["day-night"]) == 1
    assert "was altered" in (folder / "report.html").read_text()


def test_ctrl_c_keeps_what_is_done_and_the_same_command_ends_alike(
    images: Path, cache: Path, swept: tuple[Path, Result], tmp_path: Path, stop_at: object
) -> None:
    words = (*WORDS, "--target", "night", "--seeds", "0", "--no-report")
    stop_at(1)
    stopped = sweep(images, tmp_path, *words, code=1)
    assert "interrupted in day-night linear_probe seed 0, everything is saved" in stopped.stderr
    stop_at(-1)
    done = sweep(images, tmp_path, *words)
    assert done.stderr.count("(already finished)") == 1  # zero-shot CLIP
    for variant in ("zero_shot", "linear_probe", "source_only"):
        path = Path(swept[0].name, "seed0/street/day-night", variant, "artifact.safetensors")
        there = tmp_path / "street" / path
        assert there.read_bytes() == (swept[0].parent / path).read_bytes()
        log = there.with_name("train.log").read_text()
        assert ("resumed at iteration" in log) == (variant == "linear_probe")
