"""Several sources on one session or pool: whose task says what, and that no frame is lost."""

import random
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from runtime.errors import BackendError, ConfigError, DataError, TaskError
from runtime.sessions.pool import SessionPool
from runtime.sessions.session import Session
from runtime.watch.settings import SourceSettings
from runtime.watch.watcher import Watcher
from tests.runtime.routed import COLOURS, pixels_of, with_routing
from tests.runtime.watch.collecting import (
    WAIT,
    Collect,
    check_answers,
    check_counts,
    eventually,
    video,
)

TASKS = ("a-b", "a-c", "a-d")


@pytest.fixture(params=["session", "pool"])
def model(request, world):
    if request.param == "session":
        opened = Session.open(world.path)
    else:
        opened = SessionPool.open(world.path, sessions=2)
    with opened:
        yield opened


@pytest.fixture
def sources(tmp_path):
    return [
        SourceSettings(
            f"source-{task}", video(tmp_path / f"{task}.avi", seed=n), task=task, fast=True
        )
        for n, task in enumerate(TASKS)
    ]


def test_every_frame_gets_the_answer_of_its_own_sources_task(world, model, sources):
    sink = Collect()
    with Watcher(model, sources, [sink]) as watcher:
        while not watcher.wait(0.001):
            for status in watcher.status():
                check_counts(status)
                assert status.waiting <= 3
    check_answers(world, sink.seen)
    for source in sources:
        seen = sink.of(source.name)
        assert [each.frame.number for each in seen] == list(range(40))
        assert {each.prediction.task for each in seen} == {source.task}
        assert all(each.milliseconds > 0 and each.waited >= 0 for each in seen)
    for status in watcher.status():
        check_counts(status)
        assert (status.captured, status.predicted, status.waiting) == (40, 40, 0)
        assert (status.switches, status.state, status.error) == (0, "ended", None)
        assert 0 < status.p50 <= status.p99
    assert sink.closed == 1 and sink.watched is watcher and watcher.tasks == TASKS
    assert not watcher.hanging


def test_a_task_that_is_chosen_classifies_the_very_next_frame(world, model, sources):
    wanted, draw = {source.name: source.task for source in sources}, random.Random(0)
    wrong, switches = [], dict.fromkeys(wanted, 0)
    before = dict(wanted)

    def choose(observation):
        name, task = observation.source, observation.prediction.task
        if task != wanted[name]:
            wrong.append(observation)
        assert observation.switched == (task != before[name])
        switches[name] += task != before[name]
        before[name] = task
        wanted[name] = draw.choice(TASKS)
        sink.watched.choose(name, wanted[name])

    sink = Collect(choose)
    with Watcher(model, sources, [sink]) as watcher:
        assert watcher.wait(WAIT)
    assert not wrong and len(sink.seen) == 120
    check_answers(world, sink.seen)
    found = {status.name: status for status in watcher.status()}
    assert {name: each.switches for name, each in found.items()} == switches
    assert min(switches.values()) > 10
    assert {name: each.choice for name, each in found.items()} == wanted


def test_choices_from_other_threads_never_mix_two_tasks(world, model, sources):
    sink, stop = Collect(), threading.Event()

    def choose(source):
        draw = random.Random(source)
        while not stop.is_set():
            watcher.choose(source, draw.choice(TASKS))

    with Watcher(model, sources, [sink]) as watcher:
        threads = [threading.Thread(target=choose, args=(each.name,)) for each in sources]
        for thread in threads:
            thread.start()
        watcher.wait(WAIT)
        stop.set()
        for thread in threads:
            thread.join()
    assert len(sink.seen) == 120
    check_answers(world, sink.seen)


def test_what_cannot_be_chosen_is_an_error_and_changes_nothing(world, sources):
    with Session.open(world.path) as session, Watcher(session, sources) as watcher:
        with pytest.raises(ConfigError, match="unknown source 'gate'; available: source-a-b, "):
            watcher.choose("gate", "a-b")
        with pytest.raises(TaskError, match="unknown task 'x-y'; available: a-b"):
            watcher.choose("source-a-b", "x-y")
        with pytest.raises(TaskError, match="cannot choose tasks for frames"):
            watcher.choose("source-a-b", "auto")
        assert not watcher.can_route
        assert watcher.status()[0].choice == "a-b"


def test_each_source_has_a_router_of_its_own(world, tmp_path):
    with_routing(world)
    import cv2

    for task, colour in zip(TASKS, COLOURS, strict=False):
        (tmp_path / task).mkdir()
        for number, pixels in enumerate(pixels_of(colour, 25, seed=9)):
            cv2.imwrite(str(tmp_path / task / f"{number:02}.png"), pixels[..., ::-1])
    sources = [SourceSettings(task, str(tmp_path / task), task="auto", queue=50) for task in TASKS]
    sink = Collect()
    with Session.open(world.path) as session, Watcher(session, sources, [sink]) as watcher:
        assert watcher.can_route
        eventually(lambda: all(len(sink.of(task)) == 25 for task in TASKS))
        assert {each.choice for each in watcher.status()} == {"auto"}
    check_answers(world, sink.seen)
    for task in TASKS:
        assert {each.prediction.task for each in sink.of(task)[5:]} == {task}
        assert sink.of(task)[-1].prediction.route.known


def test_one_frame_in_so_many_is_classified_and_the_others_are_counted(world, sources):
    sink, source = Collect(), sources[0]
    thinned = SourceSettings("thin", source.where, task="a-b", every=3, fast=True)
    with Session.open(world.path) as session, Watcher(session, [thinned], [sink]) as watcher:
        assert watcher.wait(WAIT)
    assert [each.frame.number for each in sink.seen] == list(range(0, 40, 3))
    (status,) = watcher.status()
    check_counts(status)
    assert (status.captured, status.predicted, status.skipped) == (40, 14, 26)


def test_labels_are_smoothed_beside_the_frames_own(world, sources):
    sink = Collect(lambda each: each.frame.number == 20 and sink.watched.choose("door", "a-d"))
    source = SourceSettings("door", sources[0].where, task="a-c", smooth=5, fast=True)
    with Session.open(world.path) as session, Watcher(session, [source], [sink]) as watcher:
        assert watcher.wait(WAIT)
    for number, each in enumerate(sink.seen):
        own = [o for o in sink.seen[: number + 1] if o.prediction.task == each.prediction.task]
        mean = np.mean([o.prediction.scores for o in own[-5:]], 0)
        assert each.smoothed.frames == min(len(own), 5)
        assert each.smoothed.label == each.prediction.classes[int(mean.argmax())]
        assert each.smoothed.score == pytest.approx(mean.max(), abs=1e-6)
    assert any(each.smoothed.label != each.prediction.label for each in sink.seen)


def test_a_slow_sink_makes_frames_drop_and_no_frame_is_lost(world, tmp_path):
    source = SourceSettings("door", video(tmp_path / "v.avi", 20), task="a-b", queue=1)
    sink = Collect(lambda each: time.sleep(0.1))
    with Session.open(world.path) as session, Watcher(session, [source], [sink]) as watcher:
        assert watcher.wait(WAIT)
    (status,) = watcher.status()
    check_counts(status)
    assert status.captured == 20 and status.dropped > 0 and status.waiting == 0
    assert sink.seen[-1].frame.number == 19, "the last one is kept"


def test_a_session_that_is_closed_ends_it_with_its_error(world):
    source = SourceSettings("door", "demo:", task="a-b")
    with Session.open(world.path) as session, Watcher(session, [source]) as watcher:
        eventually(lambda: watcher.status()[0].predicted)
        session.close()
        with pytest.raises(BackendError, match="the session is closed"):
            watcher.wait(WAIT)
    check_counts(watcher.status()[0])


def test_what_a_sink_raises_is_not_hidden(world, sources):
    def fail(observation):
        raise ValueError("a mistake")

    sink = Collect(fail)
    with Session.open(world.path) as session, Watcher(session, sources, [sink]) as watcher:
        with pytest.raises(ValueError, match="a mistake"):
            watcher.wait(WAIT)
    assert sink.closed == 1


def test_a_source_that_is_not_there_ends_the_others_and_the_sinks(world, sources, tmp_path):
    sink = Collect()
    gone = SourceSettings("gone", str(tmp_path / "nowhere.avi"), task="a-b")
    before = threading.active_count()
    with Session.open(world.path) as session:
        with pytest.raises(DataError, match=r"nowhere\.avi"):
            Watcher(session, [*sources, gone], [sink])
        assert sink.closed == 1
        eventually(lambda: threading.active_count() <= before)


def test_it_ends_in_time_where_a_prediction_hangs_and_counts_its_frame_as_dropped(world):
    source = SourceSettings("door", "demo:", task="a-b")
    sink = Collect()
    with Session.open(world.path) as session:
        watcher = Watcher(session, [source], [sink])
        eventually(lambda: watcher.status()[0].predicted)
        with session._turn:  # as if a device took for ever
            eventually(lambda: watcher.stuck(0.2))
            watcher.close()
            assert watcher.hanging
            (status,) = watcher.status()
            check_counts(status)
            assert status.waiting == 0 and status.dropped > 0
        eventually(lambda: "uda-watch-0" not in [t.name for t in threading.enumerate()])
        assert watcher.status()[0] == status, "what ends later is not counted twice"
        assert len(sink.seen) == status.predicted


def test_sources_take_turns_however_many_frames_wait(world, sources):
    full = threading.Event()
    sink = Collect(lambda each: full.wait(WAIT))
    queued = [replace(source, queue=10) for source in sources]
    with Session.open(world.path) as session, Watcher(session, queued, [sink]) as watcher:
        eventually(lambda: sum(each.waiting for each in watcher.status()) == 30)
        full.set()
        assert watcher.wait(WAIT)
    turns = [each.source for each in sink.seen[1:31]]
    assert all(set(turns[n : n + 3]) == {each.name for each in sources} for n in range(28))


def test_the_pictures_of_a_folder_are_predicted_once_each_with_their_paths(world, tmp_path):
    for number in range(30):
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number:02}.png")
    sink = Collect()
    source = SourceSettings("inbox", str(tmp_path), task="a-b", queue=1)
    with Session.open(world.path) as session, Watcher(session, [source], [sink]) as watcher:
        eventually(lambda: len(sink.seen) == 30)
        (status,) = watcher.status()
    check_answers(world, sink.seen)
    assert sorted(each.frame.name for each in sink.seen) == [
        str(tmp_path / f"{number:02}.png") for number in range(30)
    ]
    assert (status.predicted, status.dropped, status.state) == (30, 0, "running")
