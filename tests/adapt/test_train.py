"""The training loop: what it writes, what it refuses, what it never looks at."""

from __future__ import annotations

import csv
import json
import os
import resource
import signal
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from adapt import methods
from adapt.artifacts.artifact import Artifact
from adapt.clip import model as base_models
from adapt.compute.device import exact_float32, select
from adapt.data import DomainPair, load_folders
from adapt.evaluation.compare import compare
from adapt.methods.cmkd import CMKDConfig
from adapt.settings.config import TaskHeadConfig, TrainConfig
from adapt.settings.limits import check_precision
from adapt.training.estimate import duration
from adapt.training.loop import Loop
from adapt.training.train import Run, train
from runtime.errors import BackendError, ConfigError, DataError, StorageError, TrainingError
from tests.adapt.forks import command, start

CPU = torch.device("cpu")


def same(a: Run, b: Run) -> bool:
    return a.path.read_bytes() == b.path.read_bytes()


def test_a_run_leaves_artifact_metrics_and_log(
    pair: DomainPair, rst_config: CMKDConfig, tmp_path: Path
) -> None:
    run = train("cmkd", pair, rst_config, out=tmp_path)
    folder = tmp_path / "street" / "day-night" / "cmkd-rst"
    assert run.path == folder / "artifact.safetensors"
    assert {p.name for p in folder.iterdir()} == {
        *(run.path.name, "metrics.jsonl", "results.csv", "train.log")
    }
    with (folder / "results.csv").open() as file:
        cells = list(csv.DictReader(file))
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [(row["epoch"], row["iteration"]) for row in rows] == [(1, 5), (2, 10)]
    assert [float(row["accuracy"]) for row in cells] == [row["accuracy"] for row in rows]
    assert float(cells[1]["loss/distill"]) == rows[1]["losses"]["distill"]
    assert float(cells[1]["score/infomax"]) == rows[1]["scores"]["infomax"]
    assert set(rows[0]["losses"]) == {"source", "task", "distill", "reg"}
    assert rows[1]["lr"] == pytest.approx(1e-3 * (1 + 3e-4 * 9) ** -0.75)
    assert rows[1]["oracle_best"] == max(row["accuracy"] for row in rows)
    loaded = Artifact.load(run.path)
    assert loaded.metrics["last"]["accuracy"] == rows[1]["accuracy"]
    assert loaded.metrics["oracle_best"]["accuracy"] == rows[1]["oracle_best"]
    assert loaded.config == asdict(rst_config)
    assert 0 < loaded.density == pytest.approx(rows[1]["density"])


def test_the_reported_accuracy_is_that_of_the_artifact(
    pair: DomainPair, rst_config: CMKDConfig, tmp_path: Path
) -> None:
    run = train("cmkd", pair, rst_config, out=tmp_path)
    lines = compare(pair, {"cmkd-rst": run.path}, asdict(rst_config))
    last = run.artifact.metrics["last"]
    assert lines[1].accuracy == last["accuracy"]
    assert lines[1].mean_per_class == last["mean_per_class"]
    assert lines[1].images == 27


def test_a_variant_that_trained_on_other_images_of_the_target_is_not_tested(
    images: Path, cache: Path, config: CMKDConfig, tmp_path: Path
) -> None:
    settings = replace(config, holdout=0.4)
    pair = load_folders(images, "day", "night", holdout=0.4, seed=0)
    run = train("cmkd", pair, settings, out=tmp_path)
    assert compare(pair, {"cmkd": run.path}, asdict(settings))[1].images == len(pair.test)
    other = load_folders(images, "day", "night", holdout=0.4, seed=1)
    with pytest.raises(DataError, match=r"\(holdout 0\.4, seed 0\); .*same --seed"):
        compare(other, {"cmkd": run.path}, asdict(replace(settings, seed=1)))


def test_under_rst_a_saved_weight_is_farther_from_the_base_than_the_threshold(
    pair: DomainPair, rst_config: CMKDConfig, tmp_path: Path
) -> None:
    artifact = train("cmkd", pair, rst_config, out=tmp_path).artifact
    base = base_models.encoder_tensors(base_models.load("demo-rn32", "demo").visual)
    for name, sparse in artifact.residual.items():
        distance = np.abs(sparse.values - base[name].reshape(-1)[sparse.indices])
        assert distance.min() > np.float32(rst_config.rst_threshold)


def test_without_rst_nearly_every_weight_changes(
    pair: DomainPair, config: CMKDConfig, tmp_path: Path
) -> None:
    assert train("cmkd", pair, config, out=tmp_path).artifact.density > 0.9


def test_train_encoder_false_leaves_an_empty_residual(
    pair: DomainPair, config: CMKDConfig, tmp_path: Path
) -> None:
    run = train("cmkd", pair, replace(config, train_encoder=False), out=tmp_path)
    assert run.artifact.residual == {}


def test_zero_shot_trains_nothing_and_scores_the_base(
    pair: DomainPair, config: CMKDConfig, tmp_path: Path
) -> None:
    settings = TrainConfig(model=config.model, pretrained=config.pretrained)
    run = train("zero_shot", pair, settings, out=tmp_path)
    assert run.artifact.residual == {} and run.artifact.head == "cosine"
    [line] = compare(pair, {}, asdict(settings))
    assert line.accuracy == run.artifact.metrics["last"]["accuracy"]
    assert run.artifact.metrics["last"]["epoch"] == 0


def test_the_same_seed_gives_the_same_bytes(
    pair: DomainPair, rst_config: CMKDConfig, tmp_path: Path
) -> None:
    first = train("cmkd", pair, rst_config, out=tmp_path / "a")
    torch.manual_seed(99)
    again = train("cmkd", pair, rst_config, out=tmp_path / "b")
    other = train("cmkd", pair, replace(rst_config, seed=1), out=tmp_path / "c")
    assert same(first, again)
    assert not np.array_equal(
        first.artifact.head_tensors["linear.weight"], other.artifact.head_tensors["linear.weight"]
    )


def test_training_leaves_the_global_generator_and_switches_alone(
    pair: DomainPair, config: CMKDConfig, tmp_path: Path
) -> None:
    state, precision = torch.get_rng_state(), torch.backends.cudnn.conv.fp32_precision
    train("cmkd", pair, config, out=tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.backends.cudnn.conv.fp32_precision == precision


def test_labels_of_the_target_change_no_weight(
    pair: DomainPair, rst_config: CMKDConfig, tmp_path: Path
) -> None:
    shuffled = replace(pair.target, labels=np.roll(pair.target.labels, 5))
    blind = replace(pair, target=shuffled, test=shuffled)
    a = train("cmkd", pair, rst_config, out=tmp_path / "a").artifact
    b = train("cmkd", blind, rst_config, out=tmp_path / "b").artifact
    assert a.metrics["last"]["accuracy"] != b.metrics["last"]["accuracy"]  # labels were different
    assert a.residual.keys() == b.residual.keys()
    for name, sparse in a.residual.items():
        assert np.array_equal(sparse.values, b.residual[name].values)
    for name, tensor in a.head_tensors.items():
        assert np.array_equal(tensor, b.head_tensors[name])


def test_an_unlabelled_target_gives_null_metrics(
    images: Path, cache: Path, config: CMKDConfig, tmp_path: Path
) -> None:
    run = train("cmkd", load_folders(images, "day", "fog"), config, out=tmp_path)
    last, best = run.artifact.metrics["last"], run.artifact.metrics["oracle_best"]
    assert (last["accuracy"], last["per_class"], best["accuracy"], best["epoch"]) == (None,) * 4
    assert last["epoch"] == 2
    [line] = compare(load_folders(images, "day", "fog"), {}, asdict(config))
    assert line.accuracy is None


def test_a_loss_that_is_not_finite_stops_training_and_writes_no_artifact(
    pair: DomainPair, config: CMKDConfig, tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=r"the loss 'source' became nan at iteration \d; lower"):
        train("cmkd", pair, replace(config, lr=1e30), out=tmp_path)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_prediction_that_is_not_finite_stops_training_and_writes_no_artifact(
    pair: DomainPair, config: CMKDConfig, tmp_path: Path
) -> None:
    """Weights that are finite and huge, as after one step that is too large."""
    diverged = replace(config, lr=1e3, epochs=1, iterations=1)
    with pytest.raises(TrainingError, match=r"a prediction is not finite; lower .* \(lr=1000\)"):
        train("cmkd", pair, diverged, out=tmp_path)
    assert not list(tmp_path.rglob("artifact.safetensors"))


def test_a_finished_artifact_stays_until_the_new_one_is_whole(
    pair: DomainPair, config: CMKDConfig, tmp_path: Path
) -> None:
    run = train("cmkd", pair, config, out=tmp_path)
    before = run.path.read_bytes()
    with pytest.raises(TrainingError):
        train("cmkd", pair, replace(config, lr=1e30), out=tmp_path, restart=True)
    assert run.path.read_bytes() == before
    again = train("cmkd", pair, replace(config, seed=1), out=tmp_path, restart=True)
    assert again.path == run.path and again.artifact.seed == 1


def test_a_source_without_labels_is_refused(
    pair: DomainPair, config: CMKDConfig, tmp_path: Path
) -> None:
    blind = replace(pair.source, labels=np.full(len(pair.source), -1))
    with pytest.raises(DataError, match="'day' has images without a label"):
        train("cmkd", replace(pair, source=blind), config, out=tmp_path)


def test_a_place_that_cannot_be_written_is_one_clear_error(
    pair: DomainPair, config: CMKDConfig, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        train("cmkd", pair, config, out=tmp_path / "file")


def test_rst_on_an_encoder_that_is_not_trained_is_refused(
    pair: DomainPair, rst_config: CMKDConfig, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="leaves the encoder alone"):
        train("cmkd", pair, replace(rst_config, train_encoder=False), out=tmp_path)


def test_a_missing_device_is_an_error_and_no_fallback(
    pair: DomainPair, config: CMKDConfig, tmp_path: Path
) -> None:
    with pytest.raises(BackendError, match=r"'cuda:99' was requested.*--device cpu"):
        train("cmkd", pair, config, out=tmp_path, device="cuda:99")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["tpu", "", "cpu:0", "cuda:", "cuda:\u00b2", "cuda:-1", "cuda\n"])
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(BackendError, match="use cpu, cuda or cuda:N"):
        select(name)


def test_rst_with_mixed_precision_is_refused_and_explained() -> None:
    config = TrainConfig(rst=True, amp="fp16")
    with pytest.raises(ConfigError, match="half a unit in the last place.*rst_allow_rounding"):
        check_precision(config, "cuda")
    check_precision(replace(config, rst_allow_rounding=True), "cuda")
    check_precision(replace(config, rst=False), "cuda")
    check_precision(replace(config, grid="fp16"), "cuda")  # it sees what it trains
    with pytest.raises(ConfigError, match="grid=fp16"):
        check_precision(replace(config, grid="bf16"), "cuda")


def test_fp16_on_the_cpu_is_refused() -> None:
    with pytest.raises(BackendError, match="amp=fp16 needs --device cuda"):
        check_precision(TrainConfig(amp="fp16"), "cpu")


def test_tf32_is_off_while_training() -> None:
    with exact_float32():
        assert torch.backends.cuda.matmul.fp32_precision == "ieee"
        assert torch.backends.cudnn.conv.fp32_precision == "ieee"


def test_the_supervised_bound_is_the_task_from_a_domain_to_itself(
    images: Path, cache: Path, config: CMKDConfig, tmp_path: Path
) -> None:
    settings = TaskHeadConfig(
        **{k: v for k, v in asdict(config).items() if k in TaskHeadConfig.__dataclass_fields__}
    )
    pair = load_folders(images, "night", "night", holdout=0.3)
    run = train("source_only", pair, settings, out=tmp_path)
    assert run.path.parts[-3:-1] == ("night-night", "source_only")
    probe = replace(settings, train_encoder=False, head_lr_multiplier=1e-6)
    bound, start = (
        train("source_only", pair, s, out=tmp_path / str(s.train_encoder)).artifact.metrics
        for s in (replace(settings, iterations=30), probe)
    )
    assert bound["last"]["accuracy"] > start["last"]["accuracy"] + 20
    assert bound["held_out"] is True and bound["test_images"] == len(pair.test) == 8


@pytest.mark.parametrize("limit", [100, 300_000])
def test_a_full_disk_is_one_clear_line_and_leaves_the_old_artifact(
    images: Path, pair: DomainPair, rst_config: CMKDConfig, tmp_path: Path, limit: int
) -> None:
    run = train("cmkd", pair, rst_config, out=tmp_path)
    before = run.path.read_bytes()
    settings = {**asdict(rst_config), "seed": 1}
    words = [f"--set={key}={value}" for key, value in settings.items() if key != "rst"]
    words += ["--rst", "--artifacts", str(tmp_path), "--threads", "1", "--restart"]
    words += ["--data", str(images), "--source", "day", "--target", "night"]

    def fill() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        command("train", *words)

    reading, writing = os.pipe()  # the limit does not hold for it
    child = start(fill, Path(f"/dev/fd/{writing}"))
    os.close(writing)
    with os.fdopen(reading) as stream:
        said = stream.read()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 1, said
    assert "Traceback" not in said and "Logging error" not in said
    last = said.strip().splitlines()[-1]
    assert last.startswith("error: cannot write '") and "File too large; choose" in last
    assert run.path.read_bytes() == before
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("name", ["cmkd", "source_only", "unimos", "ekda", "linear_probe"])
def test_the_estimate_of_a_runs_duration_leaves_no_trace(name, pair, config, tmp_path):
    """With a bar, which an estimate comes before, and without one: the same artifact."""
    cls = methods.get(name)
    own = {"lr": 1e-3, "head_lr_multiplier": 10.0} if name in ("cmkd", "source_only") else {}
    model = "demo-vit32" if name == "ekda" else config.model
    if name == "ekda":
        own = {"teacher": "demo-vit32-wide", "teacher_pretrained": "demo", "templates": "prompt"}
    settings = cls.Config(
        model=model, pretrained="demo", batch_size=8, epochs=2, iterations=2, train_size=36, **own
    )
    shown = train(name, pair, settings, out=tmp_path / "shown", show=True)
    quiet = train(name, pair, settings, out=tmp_path / "quiet")
    assert shown.path.read_bytes() == quiet.path.read_bytes()


@pytest.mark.parametrize(("name", "long"), [("source_only", True), ("linear_probe", False)])
def test_only_a_trained_encoder_is_evaluated_at_length(name, long, pair, config, tmp_path):
    """A frozen encoder's features are computed once and kept."""
    settings = methods.get(name).Config(
        model=config.model, pretrained="demo", batch_size=8, epochs=1, iterations=1, train_size=36
    )
    loop = Loop(name, methods.get(name), pair, settings, tmp_path / "a", torch.device("cpu"))
    assert (loop.evaluator.seconds() > 0) is long


def test_a_duration_reads_like_one():
    assert [duration(s) for s in (0.2, 89, 90, 5399, 12600)] == [
        "1 s", "89 s", "2 min", "90 min", "3.5 h"
    ]  # fmt: skip
