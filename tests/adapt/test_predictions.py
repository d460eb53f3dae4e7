"""Predictions of test images against a loop, and how they are kept in the cache."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from adapt.data import DomainPair
from adapt.evaluation.compare import Line, lines
from adapt.evaluation.predictions import Predictions
from adapt.methods.cmkd import CMKDConfig


@pytest.fixture
def kept(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, and the folder of predictions in it."""
    monkeypatch.setenv("UDA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "predictions"


def evaluated(pair: DomainPair, config: CMKDConfig, reuse: bool = True) -> Line:
    [line] = lines(pair, {}, asdict(config), reuse=reuse)
    return line


def test_the_two_likeliest_classes_are_those_of_a_loop() -> None:
    logits = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
    logits[0] = torch.tensor([1.0, 3.0, 3.0, 2.0, 3.0])  # equal ones
    logits[1] = 0.0
    found = Predictions.of(logits, np.arange(40))
    for row, classes, scores in zip(logits, found.classes, found.scores, strict=True):
        best = int(row.argmax())
        others = [value for place, value in enumerate(row.tolist()) if place != best]
        assert classes[0] == best != classes[1]
        assert row[int(classes[1])] == max(others)
        expected = row.double().softmax(-1)[classes.tolist()]
        np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_an_evaluation_is_reused_only_where_it_is_asked_for(
    pair: DomainPair, config: CMKDConfig, kept: Path
) -> None:
    first = evaluated(pair, config)
    again, anew = evaluated(pair, config), evaluated(pair, config, reuse=False)
    assert [line.predictions.stored for line in (first, again, anew)] == [False, True, False]
    for line in (again, anew):
        assert line.as_dict() == first.as_dict()
        np.testing.assert_array_equal(line.predictions.scores, first.predictions.scores)
        np.testing.assert_array_equal(line.predictions.classes, first.predictions.classes)
    assert len(list(kept.glob("*.safetensors"))) == 1


def test_other_images_or_captions_are_other_predictions(
    pair: DomainPair, config: CMKDConfig, kept: Path
) -> None:
    evaluated(pair, config)
    [line] = lines(pair, {}, asdict(config) | {"prompt": "{}"}, reuse=True)
    assert not line.predictions.stored
    fewer = DomainPair(pair.task, pair.source, pair.target, pair.test.subset(np.arange(9)), False)
    assert not evaluated(fewer, config).predictions.stored
    assert len(list(kept.glob("*.safetensors"))) == 3


def test_damaged_predictions_are_made_again_with_a_warning(
    pair: DomainPair, config: CMKDConfig, kept: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = evaluated(pair, config)
    [file] = kept.glob("*.safetensors")
    content = file.read_bytes()
    for damage in (b"", b"x" * 99, content[:-3] + b"abc"):
        file.write_bytes(damage)
        caplog.clear()
        with caplog.at_level(logging.WARNING, "adapt"):
            line = evaluated(pair, config)
        assert "stored predictions are made again: " in caplog.text
        assert not line.predictions.stored and line.as_dict() == first.as_dict()
        assert file.read_bytes() == content


def test_predictions_that_cannot_be_kept_are_still_shown(
    pair: DomainPair, config: CMKDConfig, kept: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept.parent.mkdir(parents=True)
    kept.write_text("in the way")
    with caplog.at_level(logging.WARNING, "adapt"):
        line = evaluated(pair, config)
    assert line.images == 27 and "predictions are not kept: " in caplog.text
