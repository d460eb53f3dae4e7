"""The loop of the demo: its camera, what a session sees of it, its harvest and its page."""

import itertools
import time

import numpy as np
import pytest
from PIL import Image

import runtime
from adapt.data import ImageSet
from adapt.demo import loop_page, person
from adapt.demo.camera import RUN, Camera, drifting
from adapt.demo.loop import CLIP_ART, OLD, PAINTINGS, TASK
from adapt.demo.seen import ADAPTING, BIN, alarms, first, phases, timeline
from adapt.demo.watch import Watch, accuracy
from runtime.errors import BackendError
from runtime.monitoring import harvested
from runtime.monitoring.fit import task_statistics
from tests.adapt.demo.figures import loop_figures, of
from tests.runtime.conftest import _make_world
from tests.runtime.helpers import smuggle
from tests.runtime.routed import COLOURS, FOREIGN, pixels_of, with_routing
from tests.runtime.watched import watched


def images_of(folder, colour, labels, names):
    """Write images of about one colour, and return them."""
    folder.mkdir()
    paths = []
    for number, pixels in enumerate(pixels_of(colour, len(labels))):
        paths.append(folder / f"{number}.png")
        Image.fromarray(pixels).save(paths[-1])
    return ImageSet(tuple(paths), np.array(labels, np.int64), names, folder.name)


@pytest.fixture(scope="module")
def watched_world(tmp_path_factory):
    """A toy bundle whose tasks know their own colours, and that tells when frames have others."""
    world = with_routing(_make_world(tmp_path_factory.mktemp("world")))
    for (name, task), colour in zip(world.tasks.items(), COLOURS, strict=False):
        pixels = pixels_of(colour, 300)
        predicted = world.logits(name, pixels).argmax(-1)
        found = task_statistics(world.features(name, pixels), predicted, len(task.info.classes))
        world.tasks[name] = watched(task, found)
        smuggle(world.path, world.tasks[name])
    return world


def test_a_camera_shows_each_image_once_in_runs_of_one_class(tmp_path):
    labels = np.repeat([0, 1], 60)
    paths = tuple(tmp_path / str(number) for number in range(len(labels)))
    images = ImageSet(paths, labels, ("cup", "key"), "art")
    shown = Camera(images, "a hall", 3).show(120)
    assert sorted(frame.path for frame in shown) == sorted(paths)
    assert {frame.scene for frame in shown} == {"a hall"}
    for frame in shown:
        assert frame.label == images.classes[labels[paths.index(frame.path)]]
    runs = [len(list(run)) for _, run in itertools.groupby(shown, lambda frame: frame.label)]
    assert max(runs[:-1]) >= RUN[0] and len(runs) > 3
    camera = Camera(images, "a hall", 3)
    assert camera.show(70) + camera.show(50) == shown
    assert Camera(images, "a hall", 4).show(120) != shown
    again = camera.show(120)
    assert again != shown and {frame.path for frame in again} == set(paths)


def test_a_scene_drifts_frame_by_frame(tmp_path):
    paths = tuple(tmp_path / str(number) for number in range(400))
    images = ImageSet(paths, np.zeros(400, np.int64), ("cup",), "art")
    frames = drifting(Camera(images, "old", 0), Camera(images, "new", 1), 400, 0)
    shares = [np.mean([f.scene == "new" for f in frames[at : at + 100]]) for at in (0, 100, 300)]
    assert len(frames) == 400
    assert shares[0] < 0.25 and 0.25 < shares[1] < 0.5 and shares[2] > 0.75


def test_figures_are_of_parts_and_of_steps():
    usual = [of("usual", True)] * BIN + [of("usual", False, known=False)] * 5
    adapting = [of(ADAPTING, True, task=TASK)] * (3 * BIN)
    assert phases(usual + adapting)["usual"] == {
        "frames": BIN + 5, "accuracy": 83.3, "known": 83.3, "drifting": 0, "tasks": {OLD: 100},
    }  # fmt: skip
    found = timeline(usual + adapting)
    assert [(each["phase"], each["frames"], each["accuracy"]) for each in found] == [
        ("usual", BIN, 100), ("usual", 5, 0), (ADAPTING, 3 * BIN, 100),
    ]  # fmt: skip


def test_alarms_are_counted_when_they_begin():
    states = [of("usual", True, drifts=each) for each in (True, True, False, True, False)]
    assert alarms(states) == 2 and alarms([]) == 0
    assert first(states, lambda seen: not seen.drifting) == 3
    assert first(states, lambda seen: seen.task == TASK) is None


def test_a_session_watches_until_frames_of_a_new_scene_are_harvested(watched_world, tmp_path):
    task = next(iter(watched_world.tasks))
    names = watched_world.tasks[task].info.classes
    own = images_of(tmp_path / "own", COLOURS[0], [0] * 100, names)
    new = images_of(tmp_path / "new", FOREIGN, [1] * 200, names)
    harvest = tmp_path / "harvest"
    with runtime.Session.open(watched_world.path, threads=1) as session:
        watch = Watch(session)
        watch.see_all("usual", Camera(own, "own", 0).show(100))
        assert not any(seen.drifting for seen in watch.seen)
        assert all(seen.known and seen.task == task for seen in watch.seen[15:])
        with runtime.Harvester(harvest, every=1, images=40) as harvester:
            for frame in Camera(own, "own", 1).show(20) + Camera(new, "new", 0).show(200):
                watch.see("new", frame, harvester)
        assert all(frame.scene == "new" for frame in watch.offered) and watch.offered
        assert len(watch.offered) == sum(s.drifting and not s.known for s in watch.seen)
        said = watch.seen[-1]
        assert said.drifting and not said.known
        right = [session.predict(path, task).label == names[0] for path in own.paths]
        assert accuracy(session, task, Camera(own, "own", 2).show(100)) == 100 * np.mean(right)
    frames = person.look(harvest, watch.offered)
    entries = harvested.read(harvest)
    assert frames.keys() == {entry.file for entry in entries}
    counts = person.contents(harvest, frames, "new")
    assert {part: each["images"] for part, each in counts.items()} == {
        part: len(list((harvest / part).iterdir())) for part in harvested.PARTS
    }
    assert all(each["images"] == each["of_the_scene"] for each in counts.values())
    assert counts["trusted"]["images"] and counts["held-out"]["images"]
    person.sort(harvest, frames)
    assert len(list((harvest / "sorted" / names[1]).iterdir())) == counts["held-out"]["images"]
    assert not list((harvest / "held-out").iterdir())


def test_a_camera_goes_on_beside_other_work_and_its_errors_are_raised(watched_world, tmp_path):
    own = images_of(tmp_path / "own", COLOURS[0], [0] * 20, ("cup",))
    camera = Camera(own, "own", 0)
    with runtime.Session.open(watched_world.path, threads=1) as session:
        watch = Watch(session)
        with watch.in_background("meanwhile", camera):
            while len(watch.seen) < 3:
                time.sleep(0.01)
        count = len(watch.seen)
        assert {seen.phase for seen in watch.seen} == {"meanwhile"} and count >= 3
    with pytest.raises(BackendError, match="closed"), watch.in_background("meanwhile", camera):
        pass
    assert len(watch.seen) == count


@pytest.fixture
def found():
    return loop_figures()


def test_the_curve_and_the_bands_lie_over_their_frames(found):
    line, strips, marks = loop_page.chart(found["timeline"])
    area = loop_page.AREA
    scale = (area["width"] - area["left"]) / sum(loop_page.widths(found["timeline"]))
    points = [tuple(map(float, each.split())) for each in line[1:].split("L")]
    assert len(points) == len(found["timeline"])
    assert points[0] == pytest.approx((area["left"] + scale * BIN / 2, area["top"]), abs=0.1)
    assert points[2][1] == area["bottom"]  # nothing is right
    assert [mark.number for mark in marks] == [1, 2, 3, 4, 5, 6]
    assert marks[1].x == pytest.approx(area["left"] + scale * 2 * BIN, abs=0.1)
    drift, none, new = strips
    assert len(drift.pieces) == len(none.pieces) == 3 and len(new.pieces) == 1
    assert new.pieces[0].x == marks[4].x and new.pieces[0].strength == 1


def test_the_page_tells_what_happened(found, tmp_path):
    story = loop_page.story(found, tmp_path)
    text = " ".join(story.events)
    assert "p-c is right for 100 % of 50 frames, with 0 false alarms." in text
    assert "The alarm comes after 7 frames, and 'auto' finds no task that fits: never." in text
    assert "25 frames later 2 are harvested to train on; p-c named 1 of them correctly." in text
    assert "exported and installed. Meanwhile the session classified 1,000 frames." in text
    assert "Without labels: cannot tell. With 9 held-out frames sorted: better." in text
    assert story.rows == [
        ["before", CLIP_ART, OLD, "100.0"],
        ["during", PAINTINGS, OLD, "45.5"],
        ["after", PAINTINGS, TASK, "81.3"],
    ]
    assert [card.right for card in story.trusted.shown] == [False]


def test_a_task_that_is_refused_has_no_accuracy_after(found):
    refused = {**found, "installed": False, "new": None, "frames_until_alarm": 1}
    assert len(loop_page.rows(refused)) == 2
    events = loop_page.events(refused)
    assert any("exported and refused" in event for event in events)
    assert "The alarm comes too early, before it drifts" in events[1]
