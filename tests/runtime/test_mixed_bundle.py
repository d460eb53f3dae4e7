"""Bundles whose tasks come from different methods: several encoders, heads and ways to resize."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

import runtime
from runtime.backends.trt.graphs import baked_graphs
from runtime.bundles import bundle
from runtime.bundles.bundle import Bundle
from runtime.bundles.graphs import EncoderGraph
from runtime.cli import main
from runtime.errors import BackendError, DataError, FormatError
from runtime.frames.preprocess import preprocess
from runtime.storage.files import sha256
from tests.runtime.helpers import rewrite, smuggle

PLAIN, PROMPTED = ("a-b", "a-d", "a-f"), ("a-c", "a-e")


@pytest.fixture
def wide() -> np.ndarray:
    """A frame that squashing and cropping make different pixels of."""
    return np.random.default_rng(6).integers(0, 256, (23, 61, 3), dtype=np.uint8)


def want(world, task, frame):
    return world.logits(task, preprocess(frame, Bundle.open(world.path).preprocess(task))[None])[0]


def test_every_task_answers_with_its_own_encoder_head_and_pixels(mixed, wide):
    rng = np.random.default_rng(0)
    with runtime.Session.open(mixed.path) as session:
        assert {len(session._strategy.encoders), len(session._strategy._heads)} == {2}
        for task in (*session.tasks, *rng.choice(session.tasks, 40).tolist()):
            session.switch(task)
            expected = want(mixed, task, wide)
            np.testing.assert_allclose(session.predict(wide).logits, expected, rtol=1e-4, atol=0.1)
            other = replace(session.preprocess, resize="squash", interpolation="bilinear")
            moved = mixed.logits(task, preprocess(wide, other)[None])[0]
            assert (np.abs(moved - expected).max() > 1) == (task in PROMPTED)


def test_random_switches_between_methods_restore_everything_bit_for_bit(mixed, wide):
    rng = np.random.default_rng(2)
    with runtime.Session.open(mixed.path) as session:
        first = {}
        for task in session.tasks:
            session.switch(task)
            first[task] = session.predict(wide).logits
        for number, task in enumerate(rng.choice(session.tasks, 500).tolist()):
            session.switch(task)
            assert number % 5 or session.predict(wide).logits.tobytes() == first[task].tobytes()
            if number % 100 == 0:
                assert session.base_sha256() == session.bundle.manifest.tensors.sha256


def test_all_encoders_read_the_same_weights_and_never_move(mixed, wide):
    with runtime.Session.open(mixed.path) as session:
        strategy = session._strategy
        weights = {n: view.ctypes.data for n, view in strategy.weights.views().items()}
        for task in ("a-c", "a-b", "a-e"):
            session.switch(task)
            session.predict(wide)
            for encoder in strategy.encoders.values():
                tokens = encoder._tokens.handles if encoder.names else {}
                own = {n: view.ctypes.data for n, view in tokens.items()}
                bound = {n: value.data_ptr() for n, value in encoder.engine._bound.items()}
                assert bound == {**weights, **own}


def test_a_tasks_memory_counts_its_tokens(mixed):
    with runtime.Session.open(mixed.path) as session:
        task = mixed.tasks["a-c"]
        arrays = [*task.tokens.values(), *task.head_tensors.values()]
        assert session.load("a-c") == sum(array.nbytes for array in arrays)


def test_threads_never_mix_one_tasks_pixels_with_anothers_weights(mixed, wide):
    frames = [np.roll(wide, 7 * i, 1) for i in range(4)]
    wrong = []
    with runtime.Session.open(mixed.path, threads=1) as session:
        answers = {}
        for task in session.tasks:
            session.switch(task)
            answers[task] = [session.predict(frame).logits for frame in frames]

        def work(seed: int) -> None:
            own = np.random.default_rng(seed)
            for _ in range(200):
                session.switch(str(own.choice(session.tasks)))
                for i, result in enumerate(session.predict_batch(frames)):
                    if not np.allclose(
                        result.logits, answers[result.task][i], rtol=1e-5, atol=0.01
                    ):
                        wrong.append((result.task, i))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_infer_wants_the_size_of_the_current_task(mixed):
    with runtime.Session.open(mixed.path) as session:
        session.switch("a-c")
        with pytest.raises(DataError, match=r"must be \(N, 16, 16, 3\) uint8"):
            session.infer(np.zeros((1, 17, 17, 3), np.uint8))


def changed(tokens, name="prompts.1", value=None):
    array = tokens[name].copy()
    array[1, 2] = value
    return {**tokens, name: array}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: changed(t, value=np.nan), "'prompts.1' of task 'a-c' hold a value that is not"),
        (lambda t: changed(t, value=np.inf), "'prompts.1' of task 'a-c' hold a value that is not"),
        (lambda t: {**t, "prompts.0": t["prompts.0"][:1]}, r"float32\(1, 300\).*float32\(2, 300\)"),
        (lambda t: {**t, "prompts.0": t["prompts.0"].T}, r"float32\(300, 2\), its encoder needs"),
        (lambda t: {k: v.astype("f2") for k, v in t.items()}, r"float16\(2, 300\), its encoder"),
        (lambda t: {k: v.astype("f8") for k, v in t.items()}, r"float64\(2, 300\), its encoder"),
        (lambda t: {"prompts.0": t["prompts.0"]}, "'prompts.1' as nothing, its encoder needs"),
        (lambda t: {}, "'prompts.0' as nothing"),
        (lambda t: {**t, "prompts.9": t["prompts.0"]}, "'prompts.9'.*needs none of that name"),
        (lambda t: {**t, "first.bias": t["prompts.0"]}, "'first.bias'.*needs none of that name"),
    ],
)
def test_damaged_tokens_are_refused_and_the_current_task_stays(mixed, wide, change, message):
    task = mixed.tasks["a-c"]
    bad = replace(task, tokens=change(task.tokens))
    with pytest.raises(FormatError, match=message):
        bundle.write(
            mixed.path.with_name("new"),
            **{**mixed.parts, "tasks": [bad]},
        )
    assert not mixed.path.with_name("new").exists()
    smuggle(mixed.path, bad)
    with runtime.Session.open(mixed.path) as session:
        session.switch("a-e")
        before = session.predict(wide).logits
        with pytest.raises(FormatError, match=message):
            session.switch("a-c")
        assert session.task == "a-e"
        np.testing.assert_array_equal(session.predict(wide).logits, before)


def test_a_task_on_another_encoder_than_it_was_made_for_is_refused(mixed):
    plain, prompted = (sha256(encoder.graph) for encoder in mixed.parts["encoders"])
    smuggle(mixed.path, replace(mixed.tasks["a-c"], encoder=plain))
    smuggle(mixed.path, replace(mixed.tasks["a-b"], encoder=prompted))
    with runtime.Session.open(mixed.path) as session:
        with pytest.raises(FormatError, match="'prompts.0' as float32.*none of that name"):
            session.switch("a-c")
        with pytest.raises(FormatError, match="'prompts.0' as nothing"):
            session.switch("a-b")


@pytest.mark.parametrize(
    "change",
    [
        lambda entry, other: entry.update(encoder=other["encoder"]),
        lambda entry, other: entry.update(resize=other["resize"]),
        lambda entry, other: entry.update(interpolation=other["interpolation"]),
        lambda entry, other: entry.update(head=other["head"]),
        lambda entry, other: entry.update(changed=1),
    ],
)
def test_a_manifest_that_contradicts_a_tasks_file_is_refused(mixed, change):
    rewrite(mixed.path, lambda body: change(body["tasks"][0], body["tasks"][3]))
    with runtime.Session.open(mixed.path) as session:
        with pytest.raises(FormatError, match="is not the file of task 'a-b' in this bundle"):
            session.switch("a-b")


@pytest.mark.parametrize(
    ("tokens", "error", "message"),
    [
        ({"stray": (2, 3)}, BackendError, "the graph has no input 'stray'"),
        ({"first.bias": (1, 300)}, FormatError, "tokens cannot be called 'first.bias'"),
        ({"pixels": (1, 300)}, FormatError, "tokens cannot be called 'pixels'"),
    ],
)
def test_tokens_that_the_graph_does_not_take_are_refused(mixed, tokens, error, message):
    graph, spec = mixed.parts["encoders"][0].graph, mixed.parts["encoders"][0].preprocess
    arrays = {name: np.zeros(shape, np.float32) for name, shape in tokens.items()}
    task = replace(mixed.tasks["a-b"], tokens=arrays)
    parts = {**mixed.parts, "encoders": [EncoderGraph(graph, spec, tokens)], "tasks": [task]}
    bundle.write(mixed.path, **parts)
    with pytest.raises(error, match=message):
        runtime.Session.open(mixed.path)
    if error is FormatError:  # nor may they take the place of a constant when engines are built
        with pytest.raises(error, match=message):
            list(baked_graphs(Bundle.open(mixed.path)))


def test_tokens_that_the_manifest_forgets_never_come_from_another_task(mixed, wide):
    graph, spec = mixed.parts["encoders"][1].graph, mixed.parts["encoders"][1].preprocess
    task = replace(mixed.tasks["a-c"], tokens={})
    bundle.write(
        mixed.path, **{**mixed.parts, "encoders": [EncoderGraph(graph, spec)], "tasks": [task]}
    )
    with runtime.Session.open(mixed.path) as session:
        with pytest.raises(BackendError, match="the graph wants 'prompts.0'"):
            session.predict(wide)


def test_info_shows_method_encoder_head_and_frames_of_every_task(mixed):
    result = CliRunner().invoke(main, ["info", str(mixed.path), "--check"], catch_exceptions=False)
    assert result.exit_code == 0
    lines = {line.split()[0]: line for line in result.output.splitlines() if "a-" in line[:2]}
    assert lines.keys() == mixed.tasks.keys()
    for name, line in lines.items():
        task = mixed.tasks[name]
        prompted, changed = name in PROMPTED, sum(s.indices.size for s in task.patch.values())
        assert f" {task.method} " in line
        assert ("base + 2 x 2 tokens" in line) == prompted
        assert ("crop 16, bicubic" if prompted else "squash 16, bilinear") in line
        assert f" {'affine' if 'bias' in task.head_tensors else 'linear'}  " in line
        assert f"  {changed}  " in line
    assert "checked   10 files, all intact" in result.output
