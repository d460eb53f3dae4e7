"""Predictions of tasks that carry statistics and a temperature: what they add, and never change."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import runtime
from runtime.cli import main
from runtime.errors import ConfigError, FormatError
from runtime.prediction import compare_at_once
from tests.runtime.helpers import smuggle
from tests.runtime.test_outputs import rows
from tests.runtime.watched import CALIBRATION, foreign_pixels, own_pixels, statistics_of, watch
from tests.runtime.watched import watched as carrying

OWN, FOREIGN = list(own_pixels(400, seed=5)), list(foreign_pixels())


@pytest.fixture
def pair(make_world):
    """The same bundle twice: plain, and with statistics and a temperature."""
    return make_world("plain.bundle", mixed=True, tasks=5), watch(
        make_world("watched.bundle", mixed=True, tasks=5), CALIBRATION
    )


@pytest.mark.parametrize("strategy", ["patch", "engines"])
def test_statistics_and_temperatures_change_neither_label_nor_logit(pair, strategy):
    plain, watched = pair
    frames = OWN[:5]
    with (
        runtime.Session.open(plain.path, threads=1, strategy=strategy) as want,
        runtime.Session.open(watched.path, threads=1, strategy=strategy) as found,
    ):
        pairs = [(frame, task) for task in want.tasks for frame in frames]
        for task in want.tasks:
            before, after = (s.predict_batch(frames, task) for s in (want, found))
            assert before == after
            assert all(p.known is None and p.novelty is p.affinity is None for p in before)
            assert all(p.novelty is not None and p.known is not None for p in after)
            features = watched.features(task, np.stack(frames))
            np.testing.assert_allclose([p.features for p in after], features, rtol=1e-4, atol=1e-2)
        many = found.predict_many(pairs)
        assert want.predict_many(pairs) == many
        singly = [found.predict(*each) for each in pairs]
        assert [p.novelty for p in many] == pytest.approx([p.novelty for p in singly], abs=0.01)


def test_what_is_not_like_the_tasks_own_images_is_unknown_at_the_chosen_rate(world):
    watch(world)
    for reject in (0.01, 0.1):
        with runtime.Session.open(world.path, threads=1, reject=reject) as session:
            own = session.predict_batch(OWN, "a-c")
            assert np.mean([not p.known for p in own]) <= 2 * reject
            assert not any(p.known for p in session.predict_batch(FOREIGN, "a-c"))
            assert {p.novelty for p in session.predict_batch(FOREIGN, "a-c")} == {1.0}
    with runtime.SessionPool.open(world.path, sessions=2, reject=0.9) as pool:
        assert np.mean([not p.known for p in pool.predict_many([(f, "a-c") for f in OWN])]) > 0.5
        assert {pool.predict(OWN[0], "a-c").reject} == {0.9}


@pytest.mark.parametrize("value", [-0.1, 1, "0.1", True, None, float("nan")])
def test_a_rate_that_is_not_a_share_is_refused(world, value):
    for kind in (runtime.Session, runtime.SessionPool):
        with pytest.raises(ConfigError, match="reject must be a share from 0 and below 1"):
            kind.open(world.path, reject=value)


def test_a_covered_lens_and_a_broken_frame_are_unknown_whatever_their_features(world):
    watch(world)
    frame = OWN[0]
    flat = np.broadcast_to(own_pixels(1, 5).mean((1, 2)).astype(np.uint8), frame.shape)
    large = np.kron(frame, np.ones((8, 8, 1), np.uint8))
    broken = large.copy()
    broken[80:] = 128
    with runtime.Session.open(world.path, threads=1, reject=0) as session:
        for task in session.tasks:
            whole, covered, half = session.predict_batch([large, flat, broken], task)
            assert whole.known and not whole.blank
            assert covered.known is False and covered.blank and covered.novelty < 1
            assert half.known is False and half.blank
            assert not session.predict_many([(flat, task)])[0].known


def test_confidence_is_the_tempered_score_and_says_what_it_is_from(world):
    watch(world, CALIBRATION, ["a-c"])
    with runtime.Session.open(world.path, threads=1) as session:
        found, plain = (session.predict(OWN[0], task) for task in ("a-c", "a-b"))
    scaled = np.exp(found.logits / 2 - (found.logits / 2).max())
    assert found.confidence == pytest.approx(scaled.max() / scaled.sum(), rel=1e-5)
    assert found.calibration == "64 sorted images"
    assert plain.confidence is None and plain.calibration == "uncalibrated"
    row = found.to_dict()
    assert (row["confidence"], row["calibration"]) == (found.confidence, "64 sorted images")
    assert (row["novelty"], row["affinity"], row["known"]) == (
        *(found.novelty, found.affinity),
        True,
    )
    assert {"novelty", "known", "confidence"}.isdisjoint(plain.to_dict())
    json.dumps(row)


def test_statistics_of_other_features_are_refused_by_name(world):
    found = statistics_of(world, "a-c")
    short = found.__class__(
        gaussian=found.gaussian.__class__(
            *(found.gaussian.mean[:4], np.eye(4, dtype="f4"), np.ones(4, "f4"), 1.0)
        ),
        class_means=found.class_means[:, :4],
        distances=found.distances,
        affinities=found.affinities,
        images=found.images,
    )
    smuggle(world.path, carrying(world.tasks["a-c"], short))
    with runtime.Session.open(world.path, threads=1) as session:
        for call in (lambda: session.predict(OWN[0], "a-c"), lambda: one(session, "a-c")):
            with pytest.raises(FormatError, match="are of 4 features, but its encoder gives 6"):
                call()
        assert session.predict(OWN[0], "a-b").label


def one(session, task):
    return session.predict_many([(OWN[0], task)])


def test_predict_writes_what_it_knows_everywhere(world, tmp_path):
    watch(world, CALIBRATION, ["a-c"])
    for name, frame in {"own": OWN[0], "foreign": FOREIGN[0]}.items():
        Image.fromarray(frame).save(tmp_path / f"{name}.png")
    names = [str(tmp_path / "own.png"), str(tmp_path / "foreign.png")]
    files = {kind: tmp_path / f"o.{kind}" for kind in ("csv", "json", "jsonl")}
    words = ["predict", str(world.path), *names]
    outputs = [word for kind, path in files.items() for word in (f"--{kind}", str(path))]
    done = CliRunner().invoke(main, [*words, "--task", "a-c", *outputs])
    assert done.exit_code == 0, done.output
    own, foreign = done.stdout.splitlines()[:2]
    assert "; confidence " in own and "; known, novelty 0." in own and ", affinity " in own
    assert "; unknown, novelty 1.00, affinity " in foreign
    table, documents = rows(files["csv"]), json.loads(files["json"].read_text())
    assert [json.loads(line) for line in files["jsonl"].read_text().splitlines()] == documents
    assert [d["known"] for d in documents] == [True, False]
    for row, document in zip(table, documents, strict=True):
        for name in ("confidence", "novelty", "affinity"):
            assert float(row[name]) == document[name]
        assert (row["known"], row["calibration"]) == (str(document["known"]), "64 sorted images")
    plain = CliRunner().invoke(main, [*words, "--task", "a-b", "--csv", str(files["csv"])])
    assert "known" not in plain.stdout and "confidence" not in plain.stdout
    assert [(r["known"], r["confidence"]) for r in rows(files["csv"])] == [("", ""), ("", "")]
    for reject, said in (("0.01", "unknown   1 of 2 images"), ("0", "")):
        folder = CliRunner().invoke(
            main, [*words[:2], str(tmp_path), "--task", "a-c", "--reject", reject]
        )
        assert [line for line in folder.stdout.splitlines() if line.startswith("unknown")] == (
            [said] if said else []
        )
    refused = CliRunner().invoke(main, [*words, "--reject", "1"])
    assert refused.exit_code == 2 and "0<=x<1" in refused.stderr


def test_many_are_compared_at_once_as_one_by_one(pair):
    with runtime.Session.open(pair[1].path, threads=1) as session:
        task = session.tasks[0]
        alone = session.predict_batch(OWN[:7] + FOREIGN[:2], task)
        together = session.predict_batch(OWN[:7] + FOREIGN[:2], task)
    compare_at_once(together)
    assert all("novelty" in vars(each) for each in together)
    for name in ("novelty", "affinity"):
        want, found = ([getattr(each, name) for each in side] for side in (alone, together))
        np.testing.assert_allclose(found, want, atol=1e-6)
    compare_at_once([])
