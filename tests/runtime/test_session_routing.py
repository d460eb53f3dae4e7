"""Sessions and pools that choose the task of a frame."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import runtime
from runtime.bundles import bundle, manifest
from runtime.bundles.bundle import Bundle
from runtime.classify import classify
from runtime.cli import main
from runtime.errors import BackendError, DataError, FormatError, TaskError
from runtime.monitoring import routing, whitening
from runtime.sources.base import Input, Item
from tests.runtime.helpers import rewrite, smuggle
from tests.runtime.interrupts import Checker, elsewhere, interrupted
from tests.runtime.routed import (
    COLOURS,
    FOREIGN,
    base_features,
    features_of,
    pixels_of,
    with_routing,
)
from tests.runtime.watched import statistics_of, watched


@pytest.fixture
def routable(world):
    return with_routing(world)


@pytest.fixture(params=["patch", "engines"])
def session(request, routable):
    with runtime.Session.open(routable.path, strategy=request.param, threads=1) as opened:
        yield opened


def frames_of(number, count=1, seed=7):
    return list(pixels_of(COLOURS[number], count, seed))


def test_each_tasks_frames_are_nearest_to_it_and_the_current_task_stays(session, routable):
    session.switch("a-c")
    want = session.predict(frames_of(0)[0]).logits
    for number, task in enumerate(routable.tasks):
        routes = session.route(frames_of(number)[0])
        assert routes[0].task == task and routes[0].known and routes[0].margin > 0
        assert {route.task for route in routes} == set(routable.tasks)
    assert not any(route.known for route in session.route(pixels_of(FOREIGN, 1)[0]))
    assert session.task == "a-c"
    np.testing.assert_array_equal(session.predict(frames_of(0)[0]).logits, want)
    assert session.base_sha256() == session.bundle.manifest.tensors.sha256


def test_base_features_are_those_of_the_untouched_base(session, routable):
    frames = frames_of(1, 40)
    session.switch("a-b")
    want = base_features(routable, np.stack(frames))
    np.testing.assert_allclose(session.base_features(frames), want, rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(session.base_features(frames, "a-d"), want, rtol=1e-4, atol=1e-2)
    with pytest.raises(DataError, match="at least one image"):
        session.base_features([])
    with pytest.raises(TaskError, match="unknown task 'x-y'"):
        session.base_features(frames, "x-y")


def test_a_chosen_task_says_exactly_what_it_says_when_it_is_named(session, routable):
    router = runtime.Router()
    for number, task in enumerate(routable.tasks):
        router.reset()
        for frame in frames_of(number, 20):
            found = session.predict(frame, router)
            assert found.task == task == session.task == found.route.task
            assert found.route.known and router.task == task
            want = session.predict(frame, task)
            assert want.route is None and want == found
            np.testing.assert_array_equal(found.logits, want.logits)


def test_auto_is_the_sessions_own_router_and_a_batch_is_a_stream(session, routable):
    frames = [*frames_of(2, 20), *frames_of(0, 40)]
    found = session.predict_batch(frames, "auto")
    assert {each.task for each in found[:20]} == {"a-d"}
    assert [each.task for each in found[-15:]] == ["a-b"] * 15
    for frame, each in zip(frames, found, strict=True):
        want = session.predict(frame, each.task).logits
        np.testing.assert_allclose(each.logits, want, rtol=1e-5, atol=1e-3)
    assert session.predict(frames[-1], "auto").task == "a-b"
    with pytest.raises(DataError, match="at least one image"):
        session.predict_batch([], "auto")


def test_frames_of_several_cameras_go_with_named_tasks(session, routable):
    one, two = runtime.Router(), runtime.Router()
    pairs = []
    for a, b in zip(frames_of(0, 10), frames_of(2, 10), strict=True):
        pairs += [(a, one), (b, two), (a, "a-c"), (b, runtime.Router()), (a, "auto")]
    found = session.predict_many(pairs)
    assert [each.task for each in found[:4]] == ["a-b", "a-d", "a-c", "a-d"]
    assert {each.task for each in found[::5]} == {each.task for each in found[4::5]} == {"a-b"}
    assert all((each.route is None) == (place == 2) for place, each in enumerate(found[:5]))
    assert (one.task, two.task) == ("a-b", "a-d")


def test_frames_of_no_task_are_unknown(session, routable):
    router = runtime.Router()
    for frame in pixels_of(FOREIGN, 5):
        found = session.predict(frame, router)
        assert not found.route.known and found.known is False
        assert found.to_dict()["route"]["known"] is False
    assert router.task is None and router.nearest in routable.tasks


def test_frames_that_look_wrong_under_the_current_task_are_looked_at(world):
    for name, number in zip(world.tasks, range(3), strict=True):
        own = statistics_of(world, name)  # reddish, as those of the first task are
        world.tasks[name] = watched(world.tasks[name], own) if number == 0 else world.tasks[name]
    with_routing(world)
    with runtime.Session.open(world.path, threads=1) as session:
        router, looks = runtime.Router(every=1000), []
        look = session._look
        session._look = lambda *given: looks.append(1) or look(*given)
        for frame in frames_of(0, 30):
            assert session.predict(frame, router).task == "a-b"
        assert len(looks) <= router.frames + 2
        before = len(looks)
        tasks = [session.predict(frame, router).task for frame in frames_of(2, 10)]
        assert tasks[6:] == ["a-d"] * 4 and len(looks) > before


def test_tasks_that_leave_the_encoder_alone_are_routed_without_another_pass(world):
    for name in world.tasks:
        world.tasks[name] = replace(
            watched(world.tasks[name], statistics_of(world, name)), patch={}
        )
    with_routing(world)
    with runtime.Session.open(world.path, threads=1) as session:
        router, looks = runtime.Router(), []
        look = session._look
        session._look = lambda *given: looks.append(1) or look(*given)
        for number in (1, 0, 2):
            tasks = [session.predict(frame, router).task for frame in frames_of(number, 12)]
            assert tasks[6:] == [list(world.tasks)[number]] * 6
        assert len(looks) == 1


def test_tasks_with_tokens_and_other_frames_are_routed(mixed):
    with_routing(mixed)
    for strategy in ("patch", "engines"):
        with runtime.Session.open(mixed.path, strategy=strategy, threads=1) as session:
            for number, task in enumerate(mixed.tasks):
                frame = frames_of(number)[0]
                assert session.route(frame)[0].task == task
                want = session.predict(frame, task)
                assert session.predict(frame, runtime.Router()) == want


def test_tasks_without_routing_are_never_chosen(world):
    with_routing(world, ["a-b", "a-d"])
    with runtime.Session.open(world.path, threads=1) as session:
        assert {route.task for route in session.route(frames_of(1)[0])} == {"a-b", "a-d"}
        assert session.predict(frames_of(0)[0], "auto").task == "a-b"


def test_a_bundle_that_cannot_choose_says_so(world, frame):
    with runtime.Session.open(world.path, threads=1) as session:
        for call in (session.route, lambda f: session.predict(f, "auto")):
            with pytest.raises(TaskError, match="has no whitening; name a task, or train"):
                call(frame)
        assert session.predict(frame, "a-b").task == "a-b"
    bundle.write(world.path, **world.parts, optional={"whitening": whitening_for(world).encode()})
    with (
        runtime.Session.open(world.path, threads=1) as session,
        pytest.raises(TaskError, match="no task of .* carries"),
    ):
        session.route(frame)


def whitening_for(world):
    return whitening.fit(list(features_of(world).values()))


def test_without_a_graph_of_the_base_alone_it_says_so(mixed, frame):
    prompted = {name: task for name, task in mixed.tasks.items() if task.tokens}
    mixed.tasks = prompted
    mixed.parts["encoders"] = mixed.parts["encoders"][1:]
    with_routing(mixed)
    for strategy in ("patch", "engines"):
        with runtime.Session.open(mixed.path, strategy=strategy, threads=1) as session:
            with pytest.raises(FormatError, match="no graph of the base without tokens"):
                session.route(frame)
            assert session.predict(frame, next(iter(prompted))).task in prompted


def test_damaged_parts_are_refused_and_named_tasks_go_on(routable, frame):
    task = routable.tasks["a-c"]
    bad = {**task.optional_tensors, "routing.centres": np.full((2, 6), np.nan, np.float16)}
    smuggle(routable.path, replace(task, optional_tensors=bad))
    with runtime.Session.open(routable.path, threads=1) as session:
        with pytest.raises(FormatError, match=r"a-c-.*member 'routing' is damaged"):
            session.route(frame)
        assert session.predict(frame, "a-b").task == "a-b"


@pytest.mark.parametrize(
    ("factor", "message"),
    [(np.eye(4), "features of 6 dimensions.*takes 4"), (None, "expected a whitening of at most")],
)
def test_a_whitening_that_does_not_fit_is_refused(routable, frame, factor, message):
    if factor is None:
        rewrite(
            routable.path,
            lambda body: body["optional"]["whitening"].update(bytes=1 << 40),
        )
    else:
        content = whitening.Whitening(factor.astype(np.float32)).encode()
        bundle.write(routable.path, **routable.parts, optional={"whitening": content})
    with (
        runtime.Session.open(routable.path, threads=1) as session,
        pytest.raises(FormatError, match=message),
    ):
        session.route(frame)


def test_features_of_another_size_than_the_base_gives_are_refused(routable, frame):
    rng = np.random.default_rng(0)
    wrong = {
        name: routing.TaskRouting(*(rng.random((8, 4)).astype(np.float32) / 4 for _ in range(2)))
        for name in routable.tasks
    }
    tasks = [
        replace(task, optional_tensors=wrong[name].tensors())
        for name, task in routable.tasks.items()
    ]
    content = whitening.Whitening(np.eye(4, dtype=np.float32)).encode()
    routable.parts["tasks"] = tasks
    bundle.write(routable.path, **routable.parts, optional={"whitening": content})
    with (
        runtime.Session.open(routable.path, threads=1) as session,
        pytest.raises(FormatError, match="the base has features of 6 dimensions"),
    ):
        session.route(frame)


def test_an_old_bundle_of_schema_2_has_no_whitening(routable):
    content = whitening_for(routable).encode()
    bundle.write(routable.path, **routable.parts, schema=2, optional={"whitening": content})
    opened = Bundle.open(routable.path)
    assert opened.manifest.schema == 2 and opened.optional_file("whitening") is None
    assert not list((routable.path / "optional").iterdir())


def test_a_whitening_stays_while_tasks_come_and_go(routable, write_task):
    opened = Bundle.open(routable.path)
    ref = opened.optional_file(whitening.MEMBER)
    assert ref.path.startswith("optional/whitening-") and manifest.SCHEMA == 3
    extra = replace(routable.tasks["a-c"], info=replace(routable.tasks["a-c"].info, id="x-y"))
    with runtime.Session.open(routable.path, threads=1) as session:
        router = runtime.Router()
        assert session.predict(frames_of(0)[0], router).task == "a-b"
        runtime.install(routable.path, write_task(extra))
        runtime.remove(routable.path, "a-c")
        session.refresh()
        assert session.route(frames_of(1)[0])[0].task == "x-y"
        assert session.predict(frames_of(1)[0], runtime.Router()).task == "x-y"
        runtime.remove(routable.path, "a-b")
        session.refresh()
        found = session.predict(frames_of(0)[0], router)  # its task is gone
        assert found.task in session.tasks and not found.route.known
    assert Bundle.open(routable.path).optional_file(whitening.MEMBER) == ref


def test_a_task_that_goes_between_choice_and_answer_is_chosen_anew(routable):
    with runtime.Session.open(routable.path, threads=1) as session:
        choose, router = session.choose, runtime.Router()

        def remove_after(pairs):
            found = choose(pairs)
            if "a-c" in session.tasks:
                runtime.remove(routable.path, "a-c")
                session.refresh()
            return found

        session.choose = remove_after
        found = session.predict(frames_of(1)[0], router)
        assert found.task in ("a-b", "a-d")
        with pytest.raises(TaskError, match="unknown task 'a-c'"):
            session.predict_many([(frames_of(0)[0], router), (frames_of(0)[0], "a-c")])


def test_pools_route_and_choose(routable):
    with runtime.SessionPool.open(routable.path, sessions=2, threads=1) as pool:
        assert pool.route(frames_of(1)[0])[0].task == "a-c"
        assert pool.predict(frames_of(2)[0], "auto").task == "a-d"
        cameras = [runtime.Router() for _ in range(3)]

        def camera(number):
            router = cameras[number]
            return {pool.predict(frame, router).task for frame in frames_of(number, 25)}

        with ThreadPoolExecutor(3) as threads:
            assert list(threads.map(camera, range(3))) == [{"a-b"}, {"a-c"}, {"a-d"}]
        pairs = [(frame, cameras[n]) for n in range(3) for frame in frames_of(n, 12, seed=1)]
        found = pool.predict_many([*pairs, (frames_of(0)[0], "a-d")])
        assert [each.task for each in found[:-1]] == [f"a-{c}" for c in "bcd" for _ in range(12)]
        assert found[-1].task == "a-d" and found[-1].route is None
        assert pool.sessions[0]._table() is pool.sessions[1]._table()  # read once
    with pytest.raises(BackendError, match="pool is closed"):
        pool.route(frames_of(0)[0])


def test_threads_that_look_and_predict_get_right_answers(routable):
    frame = frames_of(1)[0]
    check = Checker(routable.path, frame)
    errors = []

    def run(call):
        try:
            for _ in range(40):
                call()
        except BaseException as error:
            errors.append(error)

    with runtime.Session.open(routable.path, threads=1) as session:
        calls = [
            lambda: session.route(frame),
            lambda: check.same(session.predict(frame, "auto")) or errors.append("auto"),
            lambda: check.same(session.predict(frame, "a-b")) or errors.append("a-b"),
            lambda: check.same(session.predict(frame, "a-d")) or errors.append("a-d"),
        ]
        threads = [threading.Thread(target=run, args=(call,)) for call in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        check(session, *session.tasks)
        check.base(session)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("strategy", ["patch", "engines"])
def test_whatever_interrupts_a_look_or_a_choice(routable, strategy):
    frame = frames_of(2)[0]
    check = Checker(routable.path, frame, strategy=strategy)
    with runtime.Session.open(routable.path, threads=1, strategy=strategy) as session:
        router = runtime.Router(every=1)
        session.route(frame)
        for task in session.tasks:
            session.load(task)

        def call():
            session.route(frame)
            session.predict(frame, router)

        for _ in interrupted(lambda: session.switch("a-b"), call, step=12):
            assert session.task in ("a-b", "a-d")
            check(session, "a-c")
            assert elsewhere(lambda: session.predict(frame, router)).task == "a-d"
        check.base(session)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_whatever_interrupts_the_first_reading_of_the_tables(routable):
    frame = frames_of(0)[0]
    with runtime.Session.open(routable.path, threads=1) as session:

        def forget():
            session._cache.tables._made = ()
            session._cache.tables._placed = {}

        for _ in interrupted(forget, lambda: session._table(), step=20, sample=400):
            assert elsewhere(lambda: session.route(frame))[0].task == "a-b"


def test_a_closed_session_looks_at_nothing(routable):
    session = runtime.Session.open(routable.path)
    session.close()
    for call in (session.route, lambda f: session.predict(f, "auto")):
        with pytest.raises(BackendError, match="session is closed"):
            call(frames_of(0)[0])


def test_a_frame_that_is_none_is_refused(routable):
    with runtime.Session.open(routable.path, threads=1) as session:
        for call in (session.route, lambda f: session.predict(f, "auto")):
            with pytest.raises(DataError):
                call(np.zeros((4, 4), np.float32))
        assert session.predict(frames_of(0)[0], "auto").task == "a-b"


def test_a_command_chooses_the_task_of_each_image(routable, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("shop").mkdir()
    colours = [*COLOURS[:3], FOREIGN]
    for number, colour in enumerate(colours):
        for index, pixels in enumerate(pixels_of(colour, 3)):
            Image.fromarray(pixels).save(f"shop/{number}-{index}.png")
    command = ["predict", str(routable.path), "shop", "--task", "auto", "--jsonl", "out.jsonl"]
    done = CliRunner().invoke(main, [*command, "--csv", "out.csv", "--top", "9"])
    assert done.exit_code == 0, done.output
    assert "tasks     a-b 3, a-c 3, a-d 3, none 3" in done.output
    assert "unknown   3 of 12 images" in done.output and "0-0.png: " in done.output
    assert "; task a-c\n" in done.output and "; unknown\n" in done.output
    rows = [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    for row in rows:
        number = int(Path(row["image"]).name[0])
        assert row["route"]["known"] == (number < 3)
        if number < 3:
            assert row["task"] == row["route"]["task"] == f"a-{'bcd'[number]}"
            with runtime.Session.open(routable.path, threads=1) as session:
                want = session.predict(row["image"], row["task"])
            assert row["label"] == want.label and row["score"] == pytest.approx(want.score)
    known = [line.split(",")[3] for line in Path("out.csv").read_text().splitlines()[1:]]
    assert known[:9] == [f"a-{name}" for name in "bcd" for _ in range(3)]


def test_a_video_is_one_stream_and_images_stand_alone(routable):
    def items(frames, given, video):
        return [
            Item(given, frame, number=number if video else None)
            for number, frame in enumerate(frames)
        ]

    frames = [*frames_of(0, 30), *frames_of(2, 1), *frames_of(0, 9, seed=8)]
    with runtime.Session.open(routable.path, threads=1) as session:
        stream = list(classify(session, items(frames, Input("v", "v"), True), 7, auto=True))
        alone = list(classify(session, items(frames, Input("i", "i"), False), 7, auto=True))
    assert {result.task for result in stream} == {"a-b"}
    assert [result.task for result in alone] == ["a-b"] * 30 + ["a-d"] + ["a-b"] * 9
    broken = Item(Input("x", "x"), np.zeros((2, 2), np.uint8))
    with runtime.Session.open(routable.path, threads=1) as session:
        mixed = [*items(frames[:2], Input("v", "v"), True), broken]
        found = list(classify(session, mixed, 9, auto=True))
    assert [result.task for result in found] == ["a-b", "a-b", ""]
    assert [result.error is None for result in found] == [True, True, False]
