"""What applications may rely on: the names of the package, and what its calls take."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from PIL import Image

import runtime
from runtime import errors


def test_every_public_name_is_there_and_every_error_is_public() -> None:
    assert all(hasattr(runtime, name) for name in runtime.__all__)
    kinds = {
        n
        for n, c in vars(errors).items()
        if inspect.isclass(c) and c.__module__ == "runtime.errors"
    }
    assert kinds <= set(runtime.__all__)
    with pytest.raises(AttributeError, match="'runtime' has no attribute 'Judge'"):
        _ = runtime.Judge


@pytest.mark.parametrize("kind", ["path", "text", "picture"])
def test_a_frame_may_be_a_file_or_a_picture(world, tmp_path, kind) -> None:
    """Each gives the array's prediction, on the background of the task."""
    draw = np.random.default_rng(3).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    path = tmp_path / "see-through.png"
    Image.fromarray(draw, "RGBA").save(path)
    with Image.open(path) as picture:
        picture.load()
    frame = {"path": path, "text": str(path), "picture": picture}[kind]
    with runtime.Session.open(world.path) as session:
        session.switch("a-c")
        array = runtime.read_image(path, background=session.preprocess.background)
        want = session.predict(array)
        assert np.array_equal(session.predict(frame).logits, want.logits)
        assert np.array_equal(session.predict(frame).logits, want.logits)  # it was not changed
        (many,) = session.predict_many([(frame, "a-c")])
        np.testing.assert_allclose(many.logits, want.logits, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("frame", [3, None, b"bytes"])
def test_another_frame_is_refused_by_its_type(world, frame) -> None:
    with runtime.Session.open(world.path) as session:
        session.switch("a-c")
        with pytest.raises(runtime.DataError, match="a path or a PIL image, found"):
            session.predict(frame)
        with pytest.raises(runtime.DataError, match="cannot read the image 'gone.png'"):
            session.predict("gone.png")
        assert session.task == "a-c"


@pytest.mark.parametrize("call", ["features", "predict_batch"])
def test_a_single_image_where_several_are_expected_is_refused(world, tmp_path, frame, call) -> None:
    path = tmp_path / "one.png"
    picture = Image.fromarray(frame)
    picture.save(path)
    with runtime.Session.open(world.path) as session:
        session.switch("a-c")
        for single in (path, str(path), picture, frame):
            with pytest.raises(runtime.DataError, match=r"a list of images, .* pass \[image\]"):
                getattr(session, call)(single)
        with pytest.raises(runtime.DataError, match="expected at least one image, found none"):
            getattr(session, call)([])
        for other in (None, (one for one in [frame])):
            with pytest.raises(runtime.DataError, match="a list of images, found (NoneType|gen)"):
                getattr(session, call)(other)


def test_features_are_the_encoders_under_the_named_task(world, frame) -> None:
    with runtime.Session.open(world.path) as session:
        found = {task: session.features([frame, frame], task) for task in session.tasks}
        for task, features in found.items():
            assert session.features([frame], task).dtype == np.float32
            np.testing.assert_allclose(features[0], features[1], rtol=1e-6)
            np.testing.assert_allclose(
                features, world.features(task, np.stack([frame, frame])), rtol=2e-5, atol=1e-3
            )
        with pytest.raises(runtime.DataError, match="at least one image"):
            session.features([])


def test_predictions_are_equal_by_what_they_say(world, frame) -> None:
    with runtime.Session.open(world.path) as session:
        one, again = (session.predict(frame, "a-c") for _ in range(2))
        other, dark = session.predict(frame, "a-b"), session.predict(frame // 2, "a-c")
    assert one == again and one in [other, again]
    assert one != other and one != dark and one != "a-c"
