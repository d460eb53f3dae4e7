"""Transparent image files: what a task lays them on, and readers that do not know of it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import runtime
from runtime.bundles import bundle, task
from runtime.bundles.bundle import Bundle
from runtime.bundles.install import install, remove, rollback
from runtime.bundles.task import encode_task
from runtime.cli import main
from runtime.errors import FormatError
from runtime.frames.preprocess import preprocess, read_image
from runtime.models import Preprocess
from runtime.storage import checksummed
from tests.images import BACKGROUNDS, TRANSPARENT, laid_on
from tests.runtime.conftest import SIZE
from tests.runtime.helpers import answers, smuggle
from tests.runtime.routed import with_routing

PLAIN = {"info", "method", "resize", "interpolation", "base_sha256", "encoder", "head", "patch"}
PLAIN |= {"facts", "requires", "optional"}


def on(made, background):
    """Return a task that was trained on a background."""
    requires = () if background == "drop" else ("background",)
    return replace(made, background=background, requires=requires)


def document(made):
    return checksummed.read(
        Path("x"), "uda-task", 2, features={"background"}, content=encode_task(made)
    )


@pytest.fixture
def three(world):
    """A bundle with tasks of three backgrounds."""
    made = zip(world.tasks.values(), ("drop", "white", "grey"), strict=True)
    world.tasks = {one.info.id: on(one, background) for one, background in made}
    bundle.write(world.path, **{**world.parts, "tasks": list(world.tasks.values())})
    return world


def test_a_task_names_its_background_and_requires_that_readers_know_it(three):
    opened = Bundle.open(three.path)
    assert [e.requires for e in opened.manifest.tasks] == [(), ("background",), ("background",)]
    assert opened.manifest.requires == ()
    with runtime.Session.open(three.path) as session:
        for name, made in three.tasks.items():
            assert opened.task(name, opened.layout()).background == made.background
            session.switch(name)
            assert session.preprocess.background == made.background
    assert document(three.tasks["a-c"]).document["background"] == "white"
    shown = CliRunner().invoke(main, ["info", str(three.path), "--check"])
    assert "format    schema 3, requires background (a-c, a-d)\n" in shown.output
    assert "no feature" not in shown.output


def test_a_task_that_drops_transparency_is_written_as_before_there_was_a_background(world):
    found = document(world.tasks["a-b"])
    assert found.requires == ()
    assert found.document.keys() | {"requires", "optional"} == PLAIN
    with_one = document(on(world.tasks["a-b"], "black"))
    assert with_one.document.keys() - found.document.keys() == {"background"}


@pytest.mark.parametrize("name", ["colour.png", "palette-with-a-hole.gif", "key-of-16-bits.png"])
@pytest.mark.parametrize("background", ["drop", "white", "black", "grey"])
def test_predict_lays_a_file_on_the_background_of_the_task(name, background, world, tmp_path):
    truth, out = TRANSPARENT[name](tmp_path / name), tmp_path / "out.json"
    made = on(world.tasks["a-b"], background)
    soft = {name: array * 1e-4 for name, array in made.head_tensors.items()}  # no score is all of 1
    bundle.write(world.path, **{**world.parts, "tasks": [replace(made, head_tensors=soft)]})
    arguments = ["predict", world.path, tmp_path / name, "--json", out]
    assert CliRunner().invoke(main, [str(a) for a in arguments]).exit_code == 0
    ((label, score),) = json.loads(out.read_text())[0]["top"]
    with runtime.Session.open(world.path) as session:
        best = {b: session.predict(laid_on(truth, b)).top(1)[0] for b in ("drop", *BACKGROUNDS)}
    assert best[background] == (label, score)
    assert len(set(best.values())) == len(best)


def test_frames_have_no_background_and_are_resized_once(three, frame, monkeypatch):
    """A frame's pixels do not depend on it, so tasks that differ in it share what they can."""
    assert Preprocess(8, background="white") == Preprocess(8) != Preprocess(8, "crop")
    resized = []

    def noted(frames, spec, real=runtime.memory.host.preprocess_batch):
        resized.append(len(frames))
        return real(frames, spec)

    monkeypatch.setattr("runtime.memory.host.preprocess_batch", noted)
    with runtime.Session.open(three.path) as session:
        found = session.predict(frame, "a-c").logits
    pixels = preprocess(frame, Preprocess(three.parts["encoders"][0].preprocess.size))
    np.testing.assert_allclose(found, three.logits("a-c", pixels[None])[0], rtol=1e-4, atol=1e-4)
    assert resized == [1]


def test_a_reader_that_does_not_know_the_feature_refuses_these_tasks_alone(
    three, frame, monkeypatch
):
    before = answers(three.path, frame)
    for module in (bundle, task):
        monkeypatch.setattr(module, "FEATURES", frozenset())
    with runtime.Session.open(three.path) as session:
        np.testing.assert_array_equal(session.predict(frame, "a-b").logits, before["a-b"])
        with pytest.raises(FormatError, match="task 'a-c' .* requires the feature 'background'"):
            session.switch("a-c")


def test_a_background_survives_a_change_of_tasks(three, write_task):
    install(three.path, write_task(on(three.tasks["a-c"], "black")))
    assert Bundle.open(three.path).task("a-c", Bundle.open(three.path).layout()).background == (
        "black"
    )
    rollback(three.path, "a-c")
    remove(three.path, "a-c")
    rollback(three.path, "a-c")
    opened = Bundle.open(three.path)
    assert opened.task("a-c", opened.layout()).background == "white"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"background": "white"}, r"background 'white' does not go with requires=\[\]"),
        ({"requires": ["background"]}, r"background 'drop' does not go with requires=\['backgrou"),
        ({"background": "drop", "requires": ["background"]}, "background 'drop' does not go with"),
        ({"background": "pink", "requires": ["background"]}, "must be one of white, black, grey"),
        ({"background": 1, "requires": ["background"]}, "'background' must be one of white"),
    ],
)
def test_a_background_that_its_file_does_not_require_is_refused(world, tmp_path, change, message):
    file = document(world.tasks["a-b"])
    content = {**file.document, "requires": [], "optional": {}, **change}
    (tmp_path / "x").write_bytes(checksummed.encode("uda-task", 2, content, file.tensors))
    with pytest.raises(FormatError, match=message):
        install(world.path, tmp_path / "x")
    (tmp_path / "x").write_bytes(checksummed.encode("uda-task", 1, {**content}, file.tensors))
    with pytest.raises(FormatError):
        install(world.path, tmp_path / "x")


def test_a_background_without_its_feature_is_not_written(world):
    for changes in ({"background": "white"}, {"requires": ("background",)}):
        with pytest.raises(FormatError, match="task 'a-b': background .* does not go with"):
            encode_task(replace(world.tasks["a-b"], **changes))


def test_a_manifest_that_hides_the_feature_is_refused(three):
    smuggle(three.path, on(three.tasks["a-b"], "white"))
    with runtime.Session.open(three.path) as session, pytest.raises(FormatError, match="not the f"):
        session.switch("a-b")


def test_schema_2_refuses_a_background_by_name_with_the_remedy(three, tmp_path):
    tasks = [three.tasks["a-c"]]
    with pytest.raises(
        FormatError,
        match="task 'a-c' requires the feature 'background', but task files of schema 1, which "
        "--schema 2 asks for, have no features; train it with --set background=drop",
    ):
        bundle.write(tmp_path / "old.bundle", **{**three.parts, "tasks": tasks}, schema=2)
    assert not (tmp_path / "old.bundle").exists()


def test_a_named_task_lays_a_file_on_its_background_as_the_current_one_does(three, tmp_path):
    image = np.zeros((SIZE, SIZE, 4), np.uint8)
    image[..., 0], image[:8, :, 3] = 200, 255
    Image.fromarray(image).save(tmp_path / "x.png")
    with runtime.Session.open(three.path, threads=1) as session:
        want = {}
        for name in session.tasks:
            session.switch(name)
            want[name] = session.predict(tmp_path / "x.png").logits
        for name in session.tasks:
            found = session.predict(tmp_path / "x.png", name)
            np.testing.assert_array_equal(found.logits, want[name])
        for found in session.predict_many([(tmp_path / "x.png", name) for name in want]):
            np.testing.assert_allclose(found.logits, want[found.task], rtol=1e-5, atol=1e-3)


def test_looks_through_the_base_lay_a_file_on_each_tasks_background(three, tmp_path, monkeypatch):
    """A video's frames have none, so that one look is enough for all tasks."""
    with_routing(three)
    image = np.zeros((SIZE, SIZE, 4), np.uint8)
    image[..., 0], image[:8, :, 3] = 200, 255
    file = tmp_path / "x.png"
    Image.fromarray(image).save(file)
    with runtime.Session.open(three.path, threads=1) as session:
        laid = {}
        for name in session.tasks:
            session.switch(name)
            laid[name] = read_image(file, background=session.preprocess.background)
        assert len({frame.tobytes() for frame in laid.values()}) == 3
        for name, frame in laid.items():
            want = session.base_features([frame], name)
            np.testing.assert_array_equal(session.base_features([file], name), want)
            session.switch(name)
            np.testing.assert_array_equal(session.base_features([file]), want)
        found = {route.task: route.distance for route in session.route(file)}
        for name, frame in laid.items():
            want = {route.task: route.distance for route in session.route(frame)}
            assert found[name] == pytest.approx(want[name], rel=1e-5)
        passes, look = [], session._through_base
        monkeypatch.setattr(session, "_through_base", lambda *a: passes.append(1) or look(*a))
        session.route(laid["a-b"])
        assert len(passes) == 1
        session.predict(file, "auto")
        assert len(passes) == 4
