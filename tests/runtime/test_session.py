import threading
from dataclasses import replace

import numpy as np
import pytest

import runtime
from runtime.bundles import bundle
from runtime.errors import BackendError, ConfigError, DataError, FormatError, TaskError, UdaError
from tests.gpus import need_onnxruntime
from tests.runtime.helpers import smuggle


def test_predictions_equal_a_numpy_computation_for_every_task(world, frame):
    with runtime.Session.open(world.path) as session:
        for task in (*session.tasks, *reversed(session.tasks)):
            session.switch(task)
            result = session.predict(frame)
            want = world.logits(task, frame[None])[0]
            np.testing.assert_allclose(result.logits, want, rtol=2e-5, atol=1e-3)
            assert result.task == task
            assert result.classes == world.tasks[task].info.classes
            assert result.label == result.classes[int(want.argmax())]


def test_scores_are_the_softmax_of_the_logits_and_top_is_sorted(world, frame):
    with runtime.Session.open(world.path) as session:
        session.switch("a-d")
        result = session.predict(frame)
    exp = np.exp(result.logits.astype(np.float64) - result.logits.max())
    np.testing.assert_allclose(result.scores, exp / exp.sum(), rtol=1e-5, atol=1e-7)
    top = result.top(4)
    assert [score for _, score in top] == sorted((s for _, s in top), reverse=True)
    assert top[0] == (result.label, pytest.approx(result.score))
    assert len(result.top(99)) == 4
    for count in (0, -1):
        with pytest.raises(ConfigError, match=f"at least 1 class, found {count}"):
            result.top(count)


def test_a_batch_equals_single_predictions(world):
    rng = np.random.default_rng(1)
    frames = [
        rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in [(16, 16), (40, 9), (7, 80)]
    ]
    with runtime.Session.open(world.path) as session:
        session.switch("a-c")
        batch = session.predict_batch(frames)
        for frame, result in zip(frames, batch, strict=True):
            np.testing.assert_allclose(
                session.predict(frame).logits, result.logits, rtol=1e-5, atol=1e-4
            )


def test_a_thousand_random_switches_restore_the_base_bit_for_bit(world, frame):
    rng = np.random.default_rng(2)
    with runtime.Session.open(world.path) as session:
        for _ in range(1000):
            session.switch(str(rng.choice(session.tasks)))
        before = session.predict(frame).logits
        assert session.base_sha256() == session.bundle.manifest.tensors.sha256
        np.testing.assert_array_equal(session.predict(frame).logits, before)


def test_a_damaged_base_in_memory_is_seen(world):
    with runtime.Session.open(world.path) as session:
        session.switch("a-b")
        session._strategy.weights["first.bias"][7] += 1
        assert session.base_sha256() != session.bundle.manifest.tensors.sha256


def test_switch_to_unknown_task_lists_known_tasks_and_keeps_the_current_one(world, frame):
    with runtime.Session.open(world.path) as session:
        session.switch("a-b")
        with pytest.raises(TaskError, match=r"unknown task 'x-y'.*a-b, a-c, a-d"):
            session.switch("x-y")
        assert session.task == "a-b"


def test_switch_to_a_damaged_task_keeps_the_current_one(world, frame):
    with runtime.Session.open(world.path) as session:
        session.switch("a-b")
        want = session.predict(frame).logits
        (file,) = (world.path / "tasks").glob("a-c-*")
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
        with pytest.raises(UdaError, match="altered"):
            session.switch("a-c")
        np.testing.assert_array_equal(session.predict(frame).logits, want)


def test_predict_before_switch_names_the_tasks(world, frame):
    with runtime.Session.open(world.path) as session:
        with pytest.raises(TaskError, match=r"no task is selected.*a-b, a-c, a-d"):
            session.predict(frame)


def test_a_bundle_of_one_task_starts_with_it(make_world, frame):
    world = make_world("one.bundle", tasks=1)
    with runtime.Session.open(world.path) as session:
        assert session.predict(frame).task == "a-b"


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), "must be uint8"),
        (np.zeros((4, 4), np.uint8), r"\(H, W, 3\)"),
        (np.zeros((4, 4, 4), np.uint8), r"\(H, W, 3\)"),
        (np.zeros((0, 4, 3), np.uint8), "must have pixels"),
        ("frame.png", "cannot read the image 'frame.png': No such file"),
        (None, "numpy array"),
    ],
)
def test_a_bad_frame_is_a_data_error(world, bad, message):
    with runtime.Session.open(world.path) as session:
        session.switch("a-b")
        with pytest.raises(DataError, match=message):
            session.predict(bad)


def test_an_empty_batch_is_a_data_error(world):
    with runtime.Session.open(world.path) as session:
        session.switch("a-b")
        with pytest.raises(DataError, match="at least one"):
            session.predict_batch([])


def test_a_closed_session_says_so_and_closes_twice(world, frame):
    session = runtime.Session.open(world.path)
    session.close()
    session.close()
    with pytest.raises(BackendError, match="closed"):
        session.predict(frame)


def test_a_provider_that_this_build_lacks_is_an_error(world, monkeypatch):
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(BackendError, match=r"no CUDAExecutionProvider.*--device cpu"):
        runtime.Session.open(world.path, device="cuda")


@pytest.mark.gpu
def test_cuda_gives_the_numbers_of_the_cpu_for_every_task(world, frame):
    need_onnxruntime()
    with (
        runtime.Session.open(world.path) as cpu,
        runtime.Session.open(world.path, device="cuda") as cuda,
    ):
        for task in (*cpu.tasks, *reversed(cpu.tasks)):
            cpu.switch(task)
            cuda.switch(task)
            want = cpu.predict(frame).logits
            np.testing.assert_allclose(cuda.predict(frame).logits, want, rtol=1e-4, atol=1e-2)


def test_a_task_that_lacks_a_head_tensor_never_uses_another_ones(world, frame):
    smuggle(world.path, replace(world.tasks["a-c"], head_tensors={}))
    with runtime.Session.open(world.path) as session:
        session.switch("a-b")
        session.predict(frame)
        with pytest.raises(FormatError, match=r"'a-c' brings \[\] for its head"):
            session.switch("a-c")
        assert session.task == "a-b"


def test_values_that_are_not_finite_are_no_prediction(world, frame):
    big = {"weight": np.full((2, 6), 3e38, np.float32)}
    task = replace(world.parts["tasks"][0], head_tensors=big)
    bundle.write(world.path, **{**world.parts, "tasks": [task]})
    with runtime.Session.open(world.path) as session:
        with pytest.raises(FormatError, match="not finite"):
            session.predict(frame)


@pytest.mark.parametrize("kwargs", [{"backend": "nope"}, {"device": "tpu"}])
def test_an_unknown_backend_or_device_lists_the_known_ones(world, kwargs):
    with pytest.raises(BackendError, match="available: "):
        runtime.Session.open(world.path, **kwargs)


def test_threads_never_see_a_mixture_of_tasks(world):
    rng = np.random.default_rng(3)
    frames = rng.integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
    wrong = []
    with runtime.Session.open(world.path, threads=1) as session:
        want = {}
        for task in session.tasks:
            session.switch(task)
            want[task] = [session.predict(frame).logits for frame in frames]

        def work(seed: int) -> None:
            own = np.random.default_rng(seed)
            for _ in range(300):
                session.switch(str(own.choice(session.tasks)))
                i = int(own.integers(8))
                result = session.predict(frames[i])
                if not np.array_equal(result.logits, want[result.task][i]):
                    wrong.append((result.task, i))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
