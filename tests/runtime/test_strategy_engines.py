import json
import threading
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import runtime
from runtime.backends.ort.backend import OrtBackend
from runtime.bundles import bundle
from runtime.cli import main
from runtime.errors import BackendError, FormatError, TaskError, UdaError
from runtime.patch import SparseTensor
from runtime.strategies.engines import EnginesStrategy


def engines(world, **kwargs):
    return runtime.Session.open(world.path, strategy="engines", **kwargs)


@pytest.fixture(params=["world", "mixed"])
def any_world(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def untouched(world, tmp_path):
    """Three tasks: two that change nothing, and one that does; classes and heads are their own."""
    tasks = [replace(world.tasks[task], patch={}) for task in ("a-b", "a-c")]
    path = tmp_path / "untouched.bundle"
    bundle.write(path, **{**world.parts, "tasks": [*tasks, world.tasks["a-d"]]})
    world.path = path
    world.tasks = {task.info.id: task for task in tasks} | {"a-d": world.tasks["a-d"]}
    return world


def test_predictions_equal_a_numpy_computation_and_those_of_patches(any_world, frame):
    """Two encoders, tokens, two heads: an engine of constant weights computes the same function."""
    with engines(any_world) as session, runtime.Session.open(any_world.path) as patches:
        for task in (*session.tasks, *reversed(session.tasks)):
            session.switch(task)
            patches.switch(task)
            found = session.predict(frame)
            assert found.task == task
            assert found.classes == any_world.tasks[task].info.classes
            want = any_world.logits(task, frame[None])[0]
            np.testing.assert_allclose(found.logits, want, rtol=2e-5, atol=1e-3)
            np.testing.assert_allclose(
                found.logits, patches.predict(frame).logits, rtol=2e-5, atol=1e-3
            )


def test_a_task_answers_the_same_bit_for_bit_whenever_it_comes_back(any_world, frame):
    rng = np.random.default_rng(1)
    with engines(any_world) as session:
        first = {}
        for task in rng.choice(session.tasks, 50).tolist():
            session.switch(task)
            logits = session.predict(frame).logits
            np.testing.assert_array_equal(logits, first.setdefault(task, logits))
        assert first.keys() == set(session.tasks)


def test_a_task_costs_the_bytes_of_the_base_its_tokens_and_its_head(mixed):
    base = sum(array.nbytes for array in mixed.base.values())
    with engines(mixed) as session:
        for task, content in mixed.tasks.items():
            arrays = [*content.tokens.values(), *content.head_tensors.values()]
            assert session.load(task) == base + sum(array.nbytes for array in arrays)


def test_tasks_that_change_nothing_share_one_engine_and_cost_their_heads(untouched, frame):
    with engines(untouched) as session:
        made = {task: session._load(task) for task in session.tasks}
        assert made["a-b"].engine is made["a-c"].engine is not made["a-d"].engine
        assert made["a-b"].share == made["a-c"].share != made["a-d"].share
        head = untouched.tasks["a-c"].head_tensors["weight"].nbytes
        assert session.load("a-c") == made["a-c"].nbytes == head
        made["a-b"].close()  # its eviction leaves the engine to the others
        for task in ("a-c", "a-d"):
            session.switch(task)
            np.testing.assert_allclose(
                session.predict(frame).logits,
                untouched.logits(task, frame[None])[0],
                rtol=2e-5,
                atol=1e-3,
            )


def test_tasks_with_equal_tokens_and_no_patch_share_an_encoder_pass(mixed):
    first, second = (mixed.tasks[task] for task in ("a-c", "a-e"))
    twin = replace(first, info=replace(second.info, id="a-twin"), head_tensors=second.head_tensors)
    bundle.write(
        mixed.path, **{**mixed.parts, "tasks": [first, replace(twin, head=second.head), second]}
    )
    with engines(mixed) as session:
        shares = [session._load(task).share for task in session.tasks]
    assert shares[0] == shares[1] != shares[2]


def test_a_closed_task_has_released_its_engine(world, frame):
    with engines(world) as session:
        session.switch("a-b")
        resident = session._load("a-b")
        resident.close()
        with pytest.raises(BackendError):
            session.predict(frame)


def test_an_evicted_task_releases_its_engine_and_answers_the_same_when_it_returns(world, frame):
    with engines(world) as session:
        room = session.load("a-b") + session.load("a-c") + session.load("a-d") - 1
    with engines(world, max_task_bytes=room) as session:
        session.switch("a-b")
        want = session.predict(frame).logits
        engine = session._load("a-b").engine
        session.switch("a-c")
        assert engine.run({"pixels": frame[None]}).shape == (1, 6)  # it may come back
        session.switch("a-d")
        assert session.resident == ("a-c", "a-d")
        with pytest.raises(BackendError):
            engine.run({"pixels": frame[None]})
        session.switch("a-b")
        np.testing.assert_array_equal(session.predict(frame).logits, want)
        assert session.resident == ("a-d", "a-b")


def test_a_damaged_base_is_refused_when_a_task_wants_it_and_the_current_one_stays(world, frame):
    with engines(world) as session:
        session.switch("a-b")
        want = session.predict(frame).logits
        assert session.base_sha256() == session.bundle.manifest.tensors.sha256
        (file,) = (world.path / "base").iterdir()
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
        with pytest.raises(FormatError, match="altered"):
            session.switch("a-c")
        with pytest.raises(FormatError, match="altered"):
            session.base_sha256()
        assert session.task == "a-b"
        np.testing.assert_array_equal(session.predict(frame).logits, want)


def test_errors_are_those_of_any_session(world, frame):
    session = engines(world)
    with pytest.raises(TaskError, match="no task is selected"):
        session.predict(frame)
    with pytest.raises(TaskError, match="unknown task 'x-y'"):
        session.switch("x-y")
    session.close()
    session.close()
    with pytest.raises(BackendError, match="closed; open a new one"):
        session.predict(frame)
    with pytest.raises(UdaError, match="unknown strategy 'magic'; available: engines, patch"):
        runtime.Session.open(world.path, strategy="magic")


def test_a_patch_reaches_the_engine_of_its_task_alone(world, frame):
    """One entry of the base changes by a lot; only that task's answer follows."""
    changed = dict(world.tasks["a-b"].patch)
    where = np.array([5], np.uint32)
    changed["first.bias"] = SparseTensor(where, np.array([1e3], np.float32))
    tasks = {**world.tasks, "a-b": replace(world.tasks["a-b"], patch=changed)}
    with engines(world) as session:
        session.switch("a-c")
        before = session.predict(frame).logits
    bundle.write(world.path, **{**world.parts, "tasks": list(tasks.values())})
    world.tasks = tasks
    with engines(world) as session:
        session.load("a-b")
        session.switch("a-c")
        np.testing.assert_array_equal(session.predict(frame).logits, before)
        session.switch("a-b")
        want = world.logits("a-b", frame[None])[0]
        np.testing.assert_allclose(session.predict(frame).logits, want, rtol=2e-5, atol=1e-3)


def test_predict_and_bench_take_the_strategy_from_the_command_line(world, frame, tmp_path):
    image, out = tmp_path / "x.png", tmp_path / "out.json"
    Image.fromarray(frame).save(image)
    command = ["predict", str(world.path), str(image), "--task", "a-d", "--strategy", "engines"]
    result = CliRunner().invoke(main, command, catch_exceptions=False)
    best = world.tasks["a-d"].info.classes[int(world.logits("a-d", frame[None]).argmax())]
    assert result.output.startswith(f"{image}: {best} ")
    command = ["bench", str(world.path), "--strategy", "engines", "--samples", "2", "--json"]
    result = CliRunner().invoke(main, [*command, str(out)], catch_exceptions=False)
    assert "strategy engines" in result.output
    assert json.loads(out.read_text())["strategy"] == "engines"


class Slow(OrtBackend):
    """Opens engines of constant weights when it may, and remembers them."""

    def __init__(self, *args):
        super().__init__(*args)
        self.began, self.go, self.baked = threading.Event(), threading.Event(), []

    def open(self, graph, *, small=False, baked=None):
        engine = super().open(graph, small=small, baked=baked)
        if baked:
            self.began.set()
            assert self.go.wait(20)
            self.baked.append(engine)
        return engine


def test_a_shared_engine_that_is_being_opened_is_closed_with_the_others(untouched):
    backend, opened = Slow("cpu", 1), bundle.Bundle.open(untouched.path)
    strategy = EnginesStrategy.open(opened, backend, True)
    task = opened.task("a-b", strategy.layout)
    first = threading.Thread(target=strategy.prepare, args=[task, opened.preprocess("a-b")])
    first.start()
    assert backend.began.wait(20)
    last = threading.Thread(target=strategy.close)
    last.start()
    last.join(0.1)
    backend.go.set()
    first.join()
    last.join()
    (engine,) = backend.baked
    with pytest.raises(BackendError):
        engine.run({"pixels": np.zeros((1, 16, 16, 3), np.uint8)})
    with pytest.raises(BackendError, match="the engines are closed"):
        strategy.prepare(task, opened.preprocess("a-b"))
    assert len(backend.baked) == 1
