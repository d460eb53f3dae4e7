"""Which epoch is saved, from real runs of a few iterations."""

import json
from dataclasses import replace

import numpy as np
import pytest

from adapt.artifacts.artifact import Artifact
from adapt.evaluation.compare import compare
from adapt.evaluation.evaluate import Scores
from adapt.settings.selectors import SELECTORS
from adapt.training.best_epoch import BestEpoch, choose
from adapt.training.record import epoch_row
from adapt.training.train import train
from runtime.errors import ConfigError, FormatError


def rows(run):
    lines = run.path.with_name("metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("name", sorted(SELECTORS))
def test_the_saved_weights_are_those_of_the_epoch_the_score_prefers(pair, config, tmp_path, name):
    settings = replace(config, epochs=4, lr=4e-3, rst=True, select=name)  # a rate that wanders
    run = train("cmkd", pair, settings, out=tmp_path)
    history = rows(run)
    values = [row["scores"][name] for row in history]
    best = max(values) if SELECTORS[name] else min(values)
    wanted = max(i for i, value in enumerate(values) if value == best)
    chosen = run.artifact.metrics["selected"]
    assert chosen == {
        "by": name,
        **{k: history[wanted][k] for k in ("epoch", "accuracy", "mean_per_class", "per_class")},
    }
    # The run as far as that epoch ends in the very weights.
    short = train(
        "cmkd", pair, replace(settings, epochs=wanted + 1, select="last"), out=tmp_path / "short"
    )
    assert run.artifact.residual.keys() == short.artifact.residual.keys()
    for key, sparse in short.artifact.residual.items():
        assert np.array_equal(run.artifact.residual[key].values, sparse.values)
    for key, tensor in short.artifact.head_tensors.items():
        assert np.array_equal(run.artifact.head_tensors[key], tensor)
    assert run.artifact.metrics["last"]["epoch"] == 4
    assert not run.path.with_name("selected.safetensors").exists()
    line = compare(pair, {"cmkd-rst": run.path}, dict(run.artifact.config))[1]
    assert line.accuracy == pytest.approx(chosen["accuracy"])


def test_without_a_choice_the_last_epoch_is_saved(pair, config, tmp_path):
    run = train("cmkd", pair, replace(config, select="last"), out=tmp_path)
    assert run.artifact.metrics["selected"] is None
    assert set(rows(run)[0]["scores"]) == set(SELECTORS)


def test_an_unknown_selector_is_refused_before_training(pair, config, tmp_path):
    with pytest.raises(ConfigError, match="unknown selector 'best'.*infomax"):
        train("cmkd", pair, replace(config, select="best"), out=tmp_path)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_budget_is_kept_by_the_chosen_epoch(pair, config, tmp_path):
    settings = replace(config, epochs=4, rst=True, rst_density=0.01, select="entropy")
    run = train("cmkd", pair, settings, out=tmp_path)
    assert rows(run)[0]["density"] > 0.01 >= run.artifact.density > 0
    assert Artifact.load(run.path).density == run.artifact.metrics["density"]


def test_no_epoch_above_the_budget_is_the_oracles_once_one_is_within():
    accuracies, densities = (90.0, 60.0, 70.0, 70.0), (0.5, 0.1, 0.1, 0.05)
    history = []
    for epoch, (accuracy, density) in enumerate(zip(accuracies, densities, strict=True), 1):
        row = epoch_row(
            history, Scores(accuracy, accuracy - 1, {}, 100), epoch=epoch, iteration=epoch,
            losses={}, lr=1.0, density=density, survival=None, seconds=1.0, label_free={},
            budget=0.1,
        )  # fmt: skip
        history.append(row)
    found = [(row["oracle_best_epoch"], row["oracle_best"]) for row in history]
    assert found == [(1, 90.0), (2, 60.0), (3, 70.0), (3, 70.0)]
    assert history[-1]["oracle_best_mean_per_class"] == 69.0


def test_epochs_above_the_budget_are_never_chosen_even_after_one_within():
    densities, entropies = (0.004, 0.02, 0.009, 0.01), (0.4, 0.1, 0.2, 0.3)
    history = [
        {"epoch": i + 1, "density": density, "scores": {"entropy": entropy}}
        for i, (density, entropy) in enumerate(zip(densities, entropies, strict=True))
    ]
    assert choose(history, "entropy") == 1
    assert choose(history, "entropy", 0.01) == 2
    assert [choose(history[: i + 1], "entropy", 0.01) for i in range(4)] == [0, 0, 2, 2]
    assert choose(history[1:2], "entropy", 0.01) == 0  # there is no other yet
    assert choose(history[:2], "last", 0.01) == 1


def test_weights_that_were_set_aside_at_another_epoch_are_refused(
    pair, config, tmp_path, monkeypatch
):
    keep = BestEpoch.keep

    def lose(self, history):
        if len(history) == 1:  # only the first epoch's weights reach the disk
            keep(self, history)
        history[-1]["scores"]["entropy"] = float(len(history) != 2)  # the second is the best

    monkeypatch.setattr(BestEpoch, "keep", lose)
    settings = replace(config, epochs=4, lr=4e-3, rst=True, select="entropy")
    with pytest.raises(FormatError, match=r"holds the weights of another epoch than epoch 2"):
        train("cmkd", pair, settings, out=tmp_path)


def test_a_run_is_the_same_from_its_artifacts_settings(pair, config, tmp_path):
    first = train("cmkd", pair, replace(config, rst=True), out=tmp_path / "first")
    settings = type(config)(**first.artifact.config)
    again = train("cmkd", pair, settings, out=tmp_path / "again")
    assert first.path.read_bytes() == again.path.read_bytes()
