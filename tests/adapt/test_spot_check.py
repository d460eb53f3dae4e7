"""Images drawn, sorted by a person who knows the truth, and scored."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from adapt.cli import main
from adapt.data import DomainPair, load_folders
from adapt.evaluation.compare import compare
from adapt.evaluation.spot_check import MANIFEST, NONE, SORTED, UNSORTED, collect, draw
from adapt.evaluation.spot_score import score
from adapt.methods.cmkd import CMKDConfig
from adapt.training.train import train
from runtime.errors import DataError, FormatError, StorageError, TaskError, UdaError
from runtime.storage.files import sha256


def call(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def truth(pair: DomainPair) -> dict[str, str]:
    """Class by digest: what a person sees at a glance."""
    return {sha256(path.read_bytes()): path.parent.name for path in pair.test.paths}


def sort(folder: Path, pair: DomainPair, count: int | None = None) -> None:
    known = truth(pair)
    for path in sorted((folder / UNSORTED).iterdir())[:count]:
        path.rename(folder / SORTED / known[sha256(path.read_bytes())] / path.name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "check"


@pytest.fixture(scope="module")
def trained(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Artifacts of CMKD after one step, dense and sparse."""
    out = tmp_path_factory.mktemp("artifacts")
    short = CMKDConfig(
        model="demo-rn32", pretrained="demo", batch_size=8, epochs=1, iterations=1, lr=0.05,
        head_lr_multiplier=10.0, train_size=36, rst_threshold=1e-4,
    )  # fmt: skip
    for config in (short, replace(short, rst=True)):
        train("cmkd", load_folders(images, "day", "night"), config, out=out)
    return out


def test_a_draw_is_a_random_set_without_names(pair: DomainPair, folder: Path) -> None:
    manifest = draw(pair, 12, 0, folder)
    files = names(folder / UNSORTED)
    assert files == [f"{i:03d}.png" for i in range(1, 13)]
    assert names(folder) == [MANIFEST, NONE, SORTED, UNSORTED]
    assert names(folder / SORTED) == list(pair.task.classes)
    assert not any(names(path) for path in (*(folder / SORTED).iterdir(), folder / NONE))
    known, drawn = truth(pair), [sha256((folder / UNSORTED / f).read_bytes()) for f in files]
    assert len(set(drawn)) == 12 and set(drawn) <= known.keys()
    assert len({known[digest] for digest in drawn}) == 3
    assert [image.sha256 for image in manifest.images] == drawn
    text = (folder / MANIFEST).read_text()
    assert str(pair.test.paths[0].parent) not in text
    assert [n for n in names(folder.parent) if n.startswith(".")] == []


def test_the_same_seed_draws_the_same_images(pair: DomainPair, tmp_path: Path) -> None:
    one, same, other = (draw(pair, 5, seed, tmp_path / f"{i}") for i, seed in enumerate((0, 0, 1)))
    assert one == same
    assert {i.sha256 for i in one.images} != {i.sha256 for i in other.images}


def test_every_image_has_the_same_chance(pair: DomainPair, tmp_path: Path) -> None:
    small = replace(pair, test=pair.test.subset(pair.test.labels.argsort()[:4]))
    counts: dict[str, int] = {}
    for seed in range(40):
        shutil.rmtree(tmp_path / "x", ignore_errors=True)
        for image in draw(small, 2, seed, tmp_path / "x").images:
            counts[image.sha256] = counts.get(image.sha256, 0) + 1
    assert len(counts) == 4 and all(10 <= n <= 30 for n in counts.values())  # 20, sigma 3.2


def test_unreadable_images_are_passed_over(images: Path, tmp_path: Path, cache: Path) -> None:
    root = tmp_path / "street"
    shutil.copytree(images, root)
    (root / "night" / "cup" / "cup3.png").write_bytes(b"no image")
    pair = load_folders(root, "day", "night")
    draw(pair, 26, 0, tmp_path / "all")
    with pytest.raises(DataError, match="has 26 readable images to draw from, 27 were asked for"):
        draw(pair, 27, 0, tmp_path / "more")
    assert not (tmp_path / "more").exists()


def test_a_folder_that_is_taken_is_left_alone(pair: DomainPair, folder: Path) -> None:
    folder.mkdir()
    (folder / "diary.txt").write_text("dear")
    with pytest.raises(DataError, match="is not empty; choose another --out"):
        draw(pair, 3, 0, folder)
    assert names(folder) == ["diary.txt"]
    (folder / "diary.txt").unlink()
    draw(pair, 3, 0, folder)
    with pytest.raises(StorageError):
        draw(pair, 3, 0, folder / MANIFEST / "x")


def test_a_class_that_is_no_folder_name_is_refused(pair: DomainPair, folder: Path) -> None:
    task = replace(pair.task, classes=("../bee", "cup", "dog"))
    with pytest.raises(DataError, match=r"class '\.\./bee' cannot name a folder"):
        draw(replace(pair, task=task), 3, 0, folder)


def test_collecting_tells_sorted_from_unsorted_and_from_none(
    pair: DomainPair, folder: Path
) -> None:
    draw(pair, 12, 0, folder)
    sort(folder, pair, 7)
    (folder / UNSORTED / "008.png").rename(folder / NONE / "008.png")
    (folder / SORTED / "cup" / ".DS_Store").write_bytes(b"x")
    (folder / UNSORTED / "Thumbs.db").write_bytes(b"x")
    found = collect(folder)
    assert (len(found.paths), found.unsorted, found.none) == (7, 4, 1)
    known = truth(pair)
    for path, label in zip(found.paths, found.labels.tolist(), strict=True):
        assert pair.task.classes[label] == known[sha256(path.read_bytes())]


def test_all_images_sorted_give_the_accuracy_that_labels_give(
    pair: DomainPair, trained: Path, folder: Path
) -> None:
    draw(pair, 27, 0, folder)
    sort(folder, pair)
    report = score(collect(folder), trained)
    files = {v: trained / "street" / "day-night" / v / "artifact.safetensors" for v in
             ("cmkd", "cmkd-rst")}  # fmt: skip
    settings = asdict(CMKDConfig(model="demo-rn32", pretrained="demo"))
    lines = compare(pair, files, settings)
    assert [(r.variant, r.accuracy) for r in report.results] == [
        (line.variant, pytest.approx(line.accuracy)) for line in lines
    ]
    first, second = report.results[:2]
    pair_report = report.pairs[0]
    assert (pair_report.first, pair_report.second) == ("zero_shot", "cmkd")
    assert pair_report.better - pair_report.worse == second.right - first.right
    assert len(report.pairs) == 3
    assert first.low < first.accuracy < first.high
    [only] = score(collect(folder), trained, ["cmkd-rst"]).results
    assert only == report.results[2]


def test_an_artifact_that_may_have_learnt_the_images_is_refused(
    images: Path, trained: Path, folder: Path
) -> None:
    held_out = load_folders(images, "day", "night", holdout=0.3)
    draw(held_out, 5, 0, folder)
    sort(folder, held_out)
    with pytest.raises(
        DataError, match="was trained and tested on other images or labels than these; train"
    ):
        score(collect(folder), trained)


def test_nothing_sorted_and_unknown_variants_are_errors(
    pair: DomainPair, trained: Path, folder: Path, tmp_path: Path
) -> None:
    draw(pair, 5, 0, folder)
    with pytest.raises(DataError, match="none of the 5 images is in a class folder"):
        score(collect(folder), trained)
    sort(folder, pair)
    with pytest.raises(TaskError, match="no artifact 'ekda' of 'day-night'; available: cmkd"):
        score(collect(folder), trained, ["ekda"])
    with pytest.raises(TaskError, match="has no artifact of task 'day-night'"):
        score(collect(folder), tmp_path / "nothing")


def _edit(name: str, value: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        document = json.loads((folder / MANIFEST).read_text())
        document[name] = value
        (folder / MANIFEST).write_text(json.dumps(document))

    return change


def _double(folder: Path) -> None:
    shutil.copyfile(folder / UNSORTED / "001.png", folder / NONE / "001.png")


SPOILT: dict[str, tuple[Callable[[Path], object], type[UdaError], str]] = {
    "a missing image": (
        lambda f: (f / UNSORTED / "002.png").unlink(),
        DataError,
        r"1 of the 5 drawn images are gone.*'002.png'; put them back",
    ),
    "a foreign image": (
        lambda f: shutil.copyfile(f / UNSORTED / "001.png", f / SORTED / "cup" / "x.png"),
        DataError,
        "x.png' was not drawn",
    ),
    "a folder of that name": (
        lambda f: ((f / UNSORTED / "001.png").unlink(), (f / UNSORTED / "001.png").mkdir()),
        DataError,
        "001.png' was not drawn",
    ),
    "an edited image": (
        lambda f: (f / UNSORTED / "003.png").write_bytes(b"other"),
        DataError,
        "003.png' is not the image that was drawn",
    ),
    "an image in two places": (_double, DataError, "'001.png' is in .* and in .*; keep one"),
    "a new class": (
        lambda f: (f / SORTED / "cow").mkdir(),
        DataError,
        "cow' is not a class folder of 'day-night'",
    ),
    "no manifest": (lambda f: (f / MANIFEST).unlink(), FormatError, "has no manifest.json; pass"),
    "a broken manifest": (
        lambda f: (f / MANIFEST).write_text("{"),
        FormatError,
        "is not JSON; draw again",
    ),
    "another version": (_edit("schema", 2), FormatError, "'schema' must be one of 1, found 2"),
    "a manifest of text": (_edit("images", "x"), FormatError, "'images' must be a list"),
    "a digest of text": (
        _edit("images", [{"file": "001.png", "sha256": "x"}]),
        FormatError,
        "not a SHA-256",
    ),
    "a file named twice": (
        _edit("images", [{"file": "001.png", "sha256": "0" * 64}] * 2),
        FormatError,
        "a file is named twice",
    ),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_folder_is_a_clear_error(name: str, pair: DomainPair, folder: Path) -> None:
    draw(pair, 5, 0, folder)
    spoil, error, text = SPOILT[name]
    spoil(folder)
    with pytest.raises(error, match=text):
        collect(folder)


def test_a_pipe_in_a_class_folder_blocks_nothing(pair: DomainPair, folder: Path) -> None:
    draw(pair, 5, 0, folder)
    (folder / UNSORTED / "001.png").unlink()
    os.mkfifo(folder / SORTED / "cup" / "001.png")
    with pytest.raises(DataError, match="was not drawn"):
        collect(folder)


def test_the_commands_guide_from_draw_to_figures(
    images: Path, pair: DomainPair, trained: Path, folder: Path, tmp_path: Path
) -> None:
    own = ("--data", images, "--source", "day", "--target", "night", "--artifacts", trained)
    drawn = call("spot-check", "draw", *own, "--count", 10, "--out", folder)
    assert drawn.exit_code == 0, drawn.output
    assert "10 of 27 target images at random" in drawn.stdout
    assert f"uda-adapt spot-check score {folder} --artifacts {trained}\n" in drawn.stdout
    sort(folder, pair, 8)
    (folder / UNSORTED / "010.png").rename(folder / NONE / "010.png")
    words = ("spot-check", "score", folder, "--artifacts", trained, "--threads", 1)
    result = call(*words, "--json", tmp_path / "found.json")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "street day-night: accuracy on 8 images that a person sorted"
    assert [line.split()[0] for line in lines[4:7]] == ["zero_shot", "cmkd", "cmkd-rst"]
    assert "unsorted   1 image, left out" in result.stdout
    assert "no class   1 image, left out" in result.stdout
    document = json.loads((tmp_path / "found.json").read_text())
    assert (document["unsorted"], document["none"]) == (1, 1)
    assert {r["images"] for r in document["results"]} == {8}
    (folder / SORTED / "cup" / "x.png").write_bytes(b"")
    bad = call(*words)
    assert bad.exit_code == 1 and bad.stderr.startswith("error: ") and "not drawn" in bad.stderr
