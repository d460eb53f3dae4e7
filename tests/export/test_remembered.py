"""An export finds the test images of training again, or says by name why it does not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

from adapt.artifacts.artifact import Artifact
from adapt.cli import main as adapt_main
from adapt.data.origin import IMAGES, Origin
from export.cli import main as export_main
from export.verification.images import ImagePaths
from runtime.errors import DataError
from tests.adapt.conftest import draw
from tests.adapt.offices import office31


def run(command: Any, *args: object) -> str:
    done = CliRunner().invoke(command, [str(a) for a in args], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, uda_cache: Path) -> Path:
    """A folder with images in `street`, and zero-shot CLIP trained on them in `artifacts`."""
    here = tmp_path_factory.mktemp("made")
    for domain, tint in (("day", 60), ("night", 10), ("dusk", 30)):
        draw(here / "street", domain, tint, count=3)
    draw(here / "street", "fog", 20, labelled=False, count=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)  # so that the folders are named as people name them
        for target, more in (("night", ()), ("fog", ("--set", "holdout=0.4"))):
            train(target, *more)
    return here


def train(target: str, *more: str) -> None:
    run(
        *(adapt_main, "train", "--data", "street", "--source", "day", "--target", target, *more),
        *("--method", "zero_shot", "--set", "model=demo-rn32", "--set", "pretrained=demo"),
        "--no-baselines",
    )


@pytest.fixture
def world(made: Path, tmp_path: Path) -> Path:
    """The same, to be changed: the artifacts still remember the images of `made`."""
    shutil.copytree(made / "artifacts", tmp_path / "artifacts")
    return tmp_path


def artifact_of(world: Path, task: str = "day-night") -> Artifact:
    return Artifact.load(next(world.rglob(f"{task}/*/artifact.safetensors")))


def test_export_and_verify_find_the_test_images_by_themselves(made: Path, world: Path) -> None:
    given, bundle = ("--artifacts", world / "artifacts"), world / "out.bundle"
    tasks = ("--task", "day-night", "--task", "day-fog")
    output = run(export_main, "onnx", *tasks, *given, "--out", bundle)
    for task, count in (("day-night", "9 of 9"), ("day-fog", "4 of 4")):
        assert f"images of {task}: the test images of training, in '{made / 'street'}'" in output
        assert count in output
    output = run(export_main, "verify", bundle, *given, *tasks[2:])
    assert f"images of day-fog: the test images of training, in '{made / 'street'}'" in output
    assert "4 of 4" in output and "day-night" not in output
    dusk = made / "street" / "dusk"  # other images overrule them
    output = run(export_main, "verify", bundle, *given, *tasks[2:], "--images", dusk)
    assert f"images '{dusk}': 9 taken" in output and "of training" not in output


def test_images_may_be_a_list(made: Path, world: Path) -> None:
    files = sorted((made / "street" / "dusk").rglob("*.png"))
    names = [file.relative_to(made / "street") for file in files]
    listed = made / "street" / "dusk.txt"
    listed.write_text("".join(f"{name} {name.parts[1]}\n" for name in names[:5]))
    folders, artifact = ImagePaths.parse([f"day-night={listed}"]), artifact_of(world)
    assert folders.sample(artifact).labels.tolist() == [0, 0, 0, 1, 1]
    assert list(folders.inventory()) == [f"images '{listed}': 5 taken; nothing left out"]
    apart = world / "few.txt"  # beside none of its images, and without labels
    apart.write_text("".join(f"{name}\n" for name in names[:3]))
    found = ImagePaths.parse([str(apart)], made / "street").sample(artifact)
    assert found.labels.tolist() == [-1] * 3 and found.which == ""
    with pytest.raises(DataError, match="names 3 images not found in"):
        ImagePaths.parse([str(apart)]).sample(artifact)


def test_images_that_are_gone_are_named_and_found_where_they_are_now(
    made: Path, world: Path
) -> None:
    shutil.copytree(made / "street", world / "moved")
    artifact, folder = artifact_of(world), world / "street"
    artifact.optional[IMAGES]["root"] = str(folder)
    gone = f"task 'day-night' are no longer in '{folder}'; .* with --data"
    with pytest.raises(DataError, match=gone):
        ImagePaths().sample(artifact)
    found = ImagePaths(data=world / "moved").sample(artifact)
    assert found.which == f"the test images of training, in '{world / 'moved'}'"
    assert found.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def evaluated(*words: object) -> tuple[str, str]:
    """Return the line on the images, and the rest of what `uda-adapt eval` prints."""
    first, _, rest = run(adapt_main, "eval", *words).partition("\n")
    assert first.startswith("images     ")
    return first.removeprefix("images     "), rest


def refusal(*words: object, code: int = 1) -> str:
    done = CliRunner().invoke(adapt_main, [str(w) for w in words], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.stderr


def test_eval_takes_the_images_that_the_artifacts_remember(made: Path, world: Path) -> None:
    given = ("--artifacts", world / "artifacts")
    named = ("--data", made / "street", "--source", "day", "--target", "night")
    which, rest = evaluated("--task", "day-night", *given)
    assert which == f"the test images of training, in '{made / 'street'}'"
    assert rest == run(adapt_main, "eval", *named, *given)
    several = refusal("eval", *given)
    assert (
        "artifacts of 2 tasks; choose one with --task (and --dataset): street/day-fog, " in several
    )
    assert evaluated("--task", "day-fog", "--dataset", "street", *given)[1].startswith(
        "street day-fog"
    )
    drawn = run(adapt_main, "spot-check", "draw", "--task", "day-fog", *given, "--count", 2,
                "--out", world / "check")  # fmt: skip
    assert "2 of 4 held-out target images" in drawn
    shutil.rmtree(world / "artifacts" / "street" / "day-fog")
    assert evaluated(*given) == (which, rest)
    nothing = refusal("eval", "--artifacts", world / "none", code=2)
    assert f"no images, and '{world / 'none'}' has no artifacts that remember some" in nothing


def test_eval_says_that_remembered_images_are_gone_or_changed(made: Path, world: Path) -> None:
    moved, given = world / "moved", ("--task", "day-night", "--artifacts", world / "artifacts")
    shutil.copytree(made / "street", moved)
    artifact = artifact_of(world)
    artifact.optional[IMAGES]["root"] = str(world / "street")
    artifact.save(next(world.rglob("day-night/*/artifact.safetensors")))
    gone = refusal("eval", *given)
    assert f"no longer in '{world / 'street'}'; pass the folder where they are now with" in gone
    assert gone.endswith("with --data\n")  # others to test on would not bring the classes back
    forgetful = replace(artifact, optional={})
    forgetful.save(next(world.rglob("day-fog/*/artifact.safetensors")))
    lost = refusal("eval", "--task", "day-fog", *given[2:])
    assert "'street' not found for task 'day-night'; pass --data ROOT --source DOMAIN" in lost
    which, rest = evaluated(*given, "--data", moved)
    assert which == f"the test images of training, in '{moved}'"
    assert rest.startswith("street day-night: accuracy on the same 9 target images")
    another_image(moved)
    changed = refusal("eval", *given, "--data", moved)
    assert "have changed since it was trained; pass the images to use with --test" in changed
    draw = ("spot-check", "draw", *given, "--data", moved, "--out", world / "check")
    assert "since it was trained; restore them, or train the task again" in refusal(*draw)
    which, rest = evaluated(*given, "--data", moved, "--test", "dusk")
    assert which == f"the classes of training, in '{moved}'; the test images in 'dusk'"
    assert "accuracy on 9 images of 'dusk'" in rest


def another_image(street: Path) -> None:
    Image.new("RGB", (24, 24), "red").save(street / "night" / "bee" / "bee0.png")


def one_more(street: Path) -> None:
    shutil.copy(street / "day" / "cup" / "cup0.png", street / "night" / "cup" / "more.png")


def none_of_a_class(street: Path) -> None:
    shutil.rmtree(street / "night" / "dog")


def no_target(street: Path) -> None:
    shutil.rmtree(street / "night")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (another_image, "have changed since it was trained; pass the images"),
        (one_more, "have changed since it was trained; pass the images"),
        (none_of_a_class, r"cannot be read as training read them \(the classes differ"),
        (no_target, r"cannot be read as training read them \(the domain folder"),
    ],
)
def test_images_that_were_changed_are_refused(
    change: Callable[[Path], None], message: str, made: Path, world: Path
) -> None:
    shutil.copytree(made / "street", world / "street")
    change(world / "street")
    expected = f"the test images of task 'day-night' in '{world / 'street'}' {message}.* --images"
    with pytest.raises(DataError, match=expected):
        ImagePaths(data=world / "street").sample(artifact_of(world))


def test_the_reason_is_whole_though_a_folder_has_a_semicolon(made: Path, world: Path) -> None:
    street = world / "left; right"
    shutil.copytree(made / "street", street)
    no_target(street)
    with pytest.raises(DataError) as caught:
        ImagePaths(data=street).sample(artifact_of(world))
    assert f"read them (the domain folder '{street / 'night'}'" in str(caught.value)


def test_test_images_of_their_own_are_remembered(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(made / "street", "street")
    shutil.move("street/dusk", "elsewhere")
    train("night", "--test", "elsewhere")
    path = next(Path("artifacts").rglob("artifact.safetensors"))
    saved = Origin.of(Artifact.load(path).optional[IMAGES])
    assert saved == Origin(f"{tmp_path}/street", "day", "night", f"{tmp_path}/elsewhere")
    output = run(adapt_main, "inspect", path)
    words = f"--data {tmp_path}/street --source day --target night --test {tmp_path}/elsewhere"
    assert f"\ndata      {words}\n" in output
    shutil.rmtree("street/night")  # adapted to, not tested on
    draw(tmp_path / "street", "night", 99, count=1)
    monkeypatch.chdir(made)
    found = ImagePaths().sample(artifact_of(tmp_path))
    assert len(found.labels) == 9
    assert found.which == f"the test images of training, in '{tmp_path}/elsewhere'"


def test_the_folder_of_a_named_data_set_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    office31(tmp_path / "office31")
    run(
        *(adapt_main, "train", "--dataset", "office31", "--task", "a-w", "--data", "office31"),
        *("--method", "zero_shot", "--set", "model=demo-rn32", "--set", "pretrained=demo"),
        "--no-baselines",
    )
    found = ImagePaths().sample(artifact_of(tmp_path, "a-w"))
    assert len(found.labels) == 8 and found.which.endswith(f"of training, in '{tmp_path}/office31'")
    Image.new("RGB", (24, 24)).save("office31/webcam/mug/0.png")
    with pytest.raises(DataError, match="have changed since it was trained"):
        ImagePaths().sample(artifact_of(tmp_path, "a-w"))


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        {},
        {"root": 3},
        {"root": "street", "source": "a", "target": "b"},
        {"root": "/", "source": "a", "target": None},
        {"root": "/a\x1b[2J", "source": "a", "target": "b"},
        {"root": "/a\0b", "source": "a", "target": "b"},
        {"root": "/" + "a" * 5000, "source": "a", "target": "b"},
        {"root": "/a", "source": "", "target": "b"},
        {"root": "/a", "source": ["a"], "target": "b"},
    ],
)
def test_what_cannot_be_a_place_is_not_remembered(document: object, world: Path) -> None:
    assert Origin.of(document) is None
    artifact = artifact_of(world)
    artifact = replace(artifact, optional={**artifact.optional, IMAGES: document})
    with pytest.raises(
        DataError, match="images of 'street' not found for task 'day-night'; pass --images"
    ):
        ImagePaths().sample(artifact)


def test_a_later_version_may_remember_more() -> None:
    document = {"root": "/a", "source": "b", "target": "c", "test": None, "more": 1}
    assert Origin.of(document) == Origin("/a", "b", "c")
