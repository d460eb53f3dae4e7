"""Training on a harvest: what is taken of it, and what is said without and with labels."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from adapt.artifacts.artifact import Artifact
from adapt.cli import main
from adapt.data import digests
from adapt.data.base import UNKNOWN, ImageSet
from adapt.data.folder import load_own
from adapt.data.harvest import Harvest, of_pair, verdict_of
from adapt.evaluation.compare import Line
from adapt.evaluation.compare import compare as evaluate
from adapt.evaluation.confusion import Confusion
from adapt.evaluation.harvest import OLD, Comparison, compare
from adapt.evaluation.predictions import Predictions
from adapt.evaluation.stored import zero_shot_settings
from export.cli import main as exporting
from runtime import Harvester, Prediction
from runtime.errors import ConfigError, DataError, FormatError
from runtime.monitoring import harvested
from runtime.monitoring.fit import task_statistics
from tests.adapt.conftest import CLASSES, draw

QUICK = (
    "model=demo-rn32 pretrained=demo batch_size=8 epochs=1 iterations=3 train_size=36 "
    "head_lr_multiplier=10.0 lr=1e-3 rst_threshold=1e-4"
).split()


def call(command, *words: object) -> Result:
    return CliRunner().invoke(command, [str(word) for word in words])


def train(root: Path, *more: object) -> Result:
    settings = [word for setting in QUICK for word in ("--set", setting)]
    named = ("--data", root, "--source", "day", "--target", "gate", "--threads", 1)
    return call(main, "train", *named, "--rst", "--artifacts", root / "artifacts", *more, *settings)


def frame(index: int) -> np.ndarray:
    """Return one of a camera's frames; the class shows in the brightest channel."""
    pixels = np.random.default_rng([7, index]).integers(0, 120, (24, 24, 3))
    pixels[..., index % 3] += 80
    return pixels.astype(np.uint8)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with the labelled domain `day` and the harvest `gate` of a camera."""
    root = tmp_path_factory.mktemp("data") / "street"
    draw(root, "day", 60)
    random = np.random.default_rng(0)
    features = random.normal(1, 0.3, (60, 4)).astype(np.float32)
    own = task_statistics(features, np.arange(60) % 3, 3)
    with Harvester(root / "gate", every=1, images=48) as harvester:
        for index in range(250):
            logits = np.zeros(3, np.float32)
            logits[index % 3] = 4 if index % 2 else 0.5
            row = random.normal(1, 0.3, 4).astype(np.float32)
            seen = Prediction("day-noon", CLASSES, logits, row, own)
            harvester.offer(frame(index), seen, wait=True)
    return root


@pytest.fixture
def root(made: Path, cache: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "street")


def sort(root: Path, part: str, name: str, to: str) -> None:
    (root / "gate" / to).mkdir(parents=True, exist_ok=True)
    (root / "gate" / part / name).rename(root / "gate" / to / name)


def names(root: Path, part: str) -> list[str]:
    return sorted(path.name for path in (root / "gate" / part).glob("*.png"))


def test_trusted_images_are_trained_on_and_held_out_ones_tested(root: Path) -> None:
    pair = load_own(root, "day", "gate")
    assert sorted(path.name for path in pair.target.paths) == names(root, "trusted")
    assert sorted(path.name for path in pair.test.paths) == names(root, "held-out")
    assert len(pair.target) == 24 and len(pair.test) == 12 and pair.held_out
    assert set(pair.test.labels) == {UNKNOWN} == set(pair.target.labels)
    assert pair.task.id == "day-gate" and pair.task.classes == CLASSES
    assert "unsure, not sorted 12" in pair.inventory.line()


def test_sorting_labels_for_comparisons_and_leaves_the_task_as_it_is(root: Path) -> None:
    held_out, unsure, trusted = (names(root, part) for part in ("held-out", "unsure", "trusted"))
    first = load_own(root, "day", "gate")
    before = {role: getattr(first, role).digest() for role in ("target", "test")}
    sort(root, "held-out", held_out[0], "sorted/dog")
    sort(root, "held-out", held_out[1], "none-of-these")
    sort(root, "unsure", unsure[0], "sorted/bee")
    sort(root, "unsure", unsure[1], "none-of-these")
    sort(root, "trusted", trusted[0], "sorted/cup")
    pair = load_own(root, "day", "gate")
    for role, digest in before.items():
        assert digests.same(getattr(pair, role).digest(), digest)
        assert set(getattr(pair, role).labels) == {UNKNOWN}
    harvest = of_pair(pair)
    (row,) = np.flatnonzero(harvest.held_out.labels != UNKNOWN)
    assert harvest.held_out.paths[row].name == held_out[0]
    assert harvest.held_out.labels[row] == CLASSES.index("dog")
    assert [path.name for path in harvest.unsure.paths] == unsure[:1]
    assert harvest.unsure.labels.tolist() == [CLASSES.index("bee")]
    assert "of no class 1" in pair.inventory.line()


def test_a_harvest_may_be_named_from_the_current_folder(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root.parent)
    harvest = of_pair(load_own(Path(root.name), "day", "gate"))
    assert sorted(path.name for path in harvest.held_out.paths) == names(root, "held-out")


def test_moving_to_another_part_is_obeyed(root: Path) -> None:
    name = names(root, "unsure")[0]
    sort(root, "unsure", name, "trusted")
    assert name in {path.name for path in load_own(root, "day", "gate").target.paths}


def test_what_is_not_as_it_was_harvested_is_left_out(root: Path) -> None:
    first, second, third = names(root, "trusted")[:3]
    gate = root / "gate/trusted"
    (gate / first).unlink()
    (gate / second).write_bytes((gate / third).read_bytes())
    (gate / third).unlink()
    (gate / third).symlink_to("/nowhere")
    shutil.copy(gate / names(root, "trusted")[5], gate / "mine.png")
    pair = load_own(root, "day", "gate")
    assert {path.name for path in pair.target.paths} == {*names(root, "trusted")} - {
        first, second, third, "mine.png",
    }  # fmt: skip
    counts = {left.reason: left.files for left in pair.inventory.left_out}
    assert counts["altered since it was harvested"] == counts["not in the manifest"] == 1
    assert sum(left.reason == "listed, but missing" for left in pair.inventory.left_out) == 2


def test_a_harvest_outside_of_the_data_set_is_named_by_its_path(root: Path, tmp_path: Path) -> None:
    moved = (root / "gate").rename(tmp_path / "gate")
    pair = load_own(root, "day", str(moved))
    assert len(pair.target) == 24 and of_pair(pair) is not None


@pytest.mark.parametrize("part", ["trusted", "held-out"])
def test_a_harvest_without_images_is_refused(root: Path, part: str) -> None:
    shutil.rmtree(root / "gate" / part)
    with pytest.raises(DataError, match=f"too few images .*{part} 0"):
        load_own(root, "day", "gate")


def test_a_harvest_that_goes_on_is_refused(root: Path) -> None:
    (root / "gate").chmod(0o700)
    with Harvester(root / "gate"), pytest.raises(DataError, match="copy the folder"):
        load_own(root, "day", "gate")
    assert len(load_own(root, "day", "gate").target) == 24


def test_other_faults_are_named(root: Path) -> None:
    with pytest.raises(ConfigError, match="test split of its own"):
        load_own(root, "day", "gate", holdout=0.2)
    sort(root, "held-out", names(root, "held-out")[0], "sorted/cat")
    with pytest.raises(DataError, match="cat"):
        of_pair(load_own(root, "day", "gate"))
    (root / "gate/manifest.jsonl").write_text('{"kind": "uda-harvest", "schema": 1}\n{}\n')
    with pytest.raises(FormatError, match=r"manifest\.jsonl', line 2"):
        load_own(root, "day", "gate")


@pytest.mark.parametrize("absolute", [False, True])
def test_a_sweep_names_the_command_that_compares_instead(root: Path, absolute: bool) -> None:
    draw(root, "night", 20)
    gate = root / "gate" if absolute else "gate"
    words = ("--data", root, "--source", "day", "--target", f"night,{gate}")
    done = call(main, "sweep", *words, "--method", "cmkd", "--out", root / "out")
    assert done.exit_code == 1 and done.stderr.count("\n") == 1
    assert f"'{root / 'gate'}' is a harvest, and a sweep does not" in done.stderr
    named = f"uda-adapt train --data {root} --source day --target gate\n"
    assert done.stderr.endswith(named) and not (root / "out").exists()


def test_processes_of_torchrun_refuse_a_harvest(root: Path, monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    done = train(root, "--method", "cmkd")
    assert done.exit_code == 1 and done.stderr.count("\n") == 1
    assert "start `uda-adapt train` without torchrun" in done.stderr
    assert not (root / "artifacts").exists()


def line(variant: str, answers: list[int]) -> Line:
    """Return an evaluated variant that gives these answers."""
    classes = np.array([[a, (a + 1) % 3] for a in answers], np.int64)
    scores = np.full(classes.shape, 0.5, np.float32)
    found = Predictions(np.arange(len(answers)), classes, scores, scores[:, 0], 1.0)
    empty = Confusion(CLASSES, np.zeros((3, 3), np.int64))
    values = dict.fromkeys(Line.__dataclass_fields__)
    return Line(**values | {"variant": variant, "confusion": empty, "predictions": found})


def compared(
    own: list[int],
    other: list[int],
    labels: list[int],
    sure: list[bool],
    unsure: tuple[list[int], list[int], list[int]] | None = None,
) -> Comparison:
    """Return the comparison of a run with zero-shot CLIP, which says what the old task said."""

    def images(count: int, known: list[int], first: int) -> tuple[ImageSet, dict]:
        digests = [f"{first + index:064x}"[::-1] for index in range(count)]
        paths = tuple(Path(f"{digest[:16]}.png") for digest in digests)
        said = other if first == 0 else unsure[1]
        entries = {
            path.name: harvested.Entry(
                path.name, digest, "held-out", sure[i] if first == 0 else False,
                "a-b", CLASSES[said[i]], 0.5, 1, 1.0,
            )
            for i, (path, digest) in enumerate(zip(paths, digests, strict=True))
        }  # fmt: skip
        return ImageSet(paths, np.array(known, np.int64), CLASSES, "gate"), entries

    held_out, entries = images(len(own), labels, 0)
    beside, more = images(len(unsure[0]), unsure[2], 1 << 20) if unsure else (held_out, {})
    harvest = Harvest(held_out, held_out, beside, (), entries | more)
    lines = [line("zero_shot", other), line("cmkd", own)]
    extra = [line("zero_shot", unsure[1]), line("cmkd", unsure[0])] if unsure else []
    return compare(harvest, lines, extra, "cmkd")


def test_without_labels_nothing_is_called_better() -> None:
    found = compared([0] * 100, [0] * 60 + [1] * 40, [UNKNOWN] * 100, [True] * 100)
    assert found.verdict == "cannot tell" and not found.below_zero_shot and not found.sorted
    assert "no frame is sorted into a class" in found.reason
    assert "40 % from zero_shot" in found.reason
    assert {each.other for each in found.against} == {"zero_shot", OLD}
    for each in found.against:  # it could be that much better, or worse
        assert (each.differs, each.low, each.high) == pytest.approx((0.4, -0.4, 0.4))


def test_few_labels_are_not_enough_and_more_are() -> None:
    for count, verdict in ((3, "cannot tell"), (30, "better")):
        labels = [0] * count + [UNKNOWN] * (100 - count)
        found = compared([0] * 100, [1] * 100, labels, [True] * 100)
        assert (found.verdict, found.sorted) == (verdict, count)


def test_fewer_right_answers_than_zero_shot_are_never_published() -> None:
    labels = [0] * 20 + [1] * 21 + [UNKNOWN] * 59
    found = compared([0] * 100, [1] * 100, labels, [True] * 100)
    assert found.verdict == "worse" and found.below_zero_shot
    even = compared([0] * 100, [1] * 100, [0, 1] * 50, [True] * 100)
    assert even.verdict == "cannot tell" and not even.below_zero_shot


def test_sorted_unsure_frames_count_by_their_share() -> None:
    """Half of the frames are unsure; on the sure half the two differ on one frame of fifty."""
    sure = [True] * 50 + [False] * 50
    own, other = [0] * 100, [0] * 49 + [1] * 51
    unsure = [0] * 60, [1] * 60, [0] * 60
    found = compared(own, other, [UNKNOWN] * 100, sure, unsure)
    (each, _) = found.against
    gain = 61 / 62 - 1 / 62
    deviation = np.sqrt((1 - gain**2) / 62)
    assert each.gain == pytest.approx(0.5 * gain)
    assert each.low == pytest.approx(0.5 * gain - 0.5 * 0.02 - 1.96 * 0.5 * deviation, abs=1e-4)
    assert found.verdict == "better" and found.sorted == 60
    # On frames that are all sure, what the unsure ones show says nothing.
    assert compared(own, other, [UNKNOWN] * 100, [True] * 100, unsure).verdict == "cannot tell"


def test_an_interval_holds_what_it_promises() -> None:
    random, inside = np.random.default_rng(0), 0
    for _ in range(300):
        truth = random.integers(0, 3, 200)
        own = np.where(random.random(200) < 0.7, truth, (truth + 1) % 3)
        other = np.where(random.random(200) < 0.6, truth, (truth + 2) % 3)
        known = np.where(random.random(200) < 0.2, truth, UNKNOWN)
        sure = (random.random(200) < 0.5).tolist()
        found = compared(own.tolist(), other.tolist(), known.tolist(), sure)
        each = next(each for each in found.against if each.other == "zero_shot")
        inside += each.low <= 0.1 <= each.high
    assert inside >= 0.93 * 300


def test_training_says_that_it_cannot_tell_and_the_artifact_keeps_it(root: Path) -> None:
    done = train(root)
    assert done.exit_code == 0, done.output
    assert "better than its baselines" not in done.output
    told = next(row for row in done.stdout.splitlines() if row.startswith("harvest "))
    assert told.startswith("harvest    cannot tell: no frame is sorted")
    assert "move frames of held-out/ and unsure/ into sorted/CLASS/" in done.stdout
    assert "the old task is day-noon" in done.stdout and "next       uda-export" in done.stdout
    (path,) = (root / "artifacts").glob("*/*/*/artifact.safetensors")
    kept = Artifact.load(path).optional["harvest"]
    assert kept["verdict"] == "cannot tell" and kept["held_out"] == 12 and not kept["sorted"]
    names = {each["other"] for each in kept["against"]}
    assert names == {"zero_shot", "linear_probe", OLD}
    assert verdict_of(kept).startswith("on held-out frames of the harvest, cannot tell: ")


def test_a_run_below_zero_shot_is_not_published(root: Path, tmp_path: Path) -> None:
    assert train(root, "--no-baselines").exit_code == 0
    # A person who agrees with zero-shot CLIP on every frame.
    (path,) = (root / "artifacts").glob("*/*/*/artifact.safetensors")
    pair = load_own(root, "day", "gate")
    settings = zero_shot_settings(None, Artifact.load(path))
    base, own = evaluate(pair, {"cmkd-rst": path}, settings)
    answers = [each.predictions.classes[:, 0] for each in (base, own)]
    assert (answers[0] != answers[1]).any()
    for image, said in zip(pair.test.paths, answers[0], strict=True):
        sort(root, "held-out", image.name, f"sorted/{CLASSES[said]}")
    before = path.stat().st_mtime_ns
    done = train(root, "--resume")
    assert "epoch 1:" not in done.stderr and path.stat().st_mtime_ns > before  # not trained again
    assert done.exit_code == 1 and "next " not in done.stdout
    assert "harvest    worse: " in done.stdout
    assert "must not be published" in done.stderr and "zero-shot CLIP is right more" in done.stderr
    assert Artifact.load(path).optional["harvest"]["below_zero_shot"] is True
    words = ("onnx", "--task", "day-gate", "--artifacts", root / "artifacts")
    refused = call(exporting, *words, "--out", tmp_path / "x.bundle")
    assert refused.exit_code == 1 and "must not be published" in refused.stderr
    assert not (tmp_path / "x.bundle").exists()


@pytest.mark.parametrize(
    "document", [None, [], {}, {"verdict": 1, "reason": "x"}, {"verdict": "x"}]
)
def test_a_verdict_of_any_shape_is_taken(document: object) -> None:
    assert verdict_of(document) is None
    assert verdict_of({"verdict": "a\x1b", "reason": "b\n"}).isprintable()
