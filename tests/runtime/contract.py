"""What every backend of `BACKENDS` must do, wherever it runs: the tests of a class to inherit.

Whoever inherits gives a fixture `where`: the name of a backend, a device that it runs on, and a
function that makes a bundle ready for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import runtime
from runtime import backends
from runtime.backends.base import Backend
from runtime.bundles.bundle import Bundle
from runtime.errors import BackendError, UdaError
from runtime.memory.form import Form
from runtime.models import Precision
from tests.runtime.conftest import SIZE
from tests.runtime.interrupts import Checker, interrupted
from tests.runtime.routed import COLOURS, base_features, pixels_of, with_routing

TOLERANCE = {"rtol": 1e-4, "atol": 1e-2}
"""Of logits of a size of 1e3: the order of additions is each library's own."""
MORE_THAN_A_PROFILE = 11
"""Frames; engines that are built take 8 at once unless they are asked for more."""


class Where(NamedTuple):
    backend: str
    device: str
    ready: Callable[[Path, str], None]
    """Makes the bundle of a path ready for a strategy."""
    precision: Precision = "fp32"
    """Precision of the bundles."""
    tolerance: Mapping[str, float] = TOLERANCE

    def session(self, path: Path, strategy: str = "patch", **options) -> runtime.Session:
        self.ready(path, strategy)
        how = {"backend": self.backend, "device": self.device, "strategy": strategy, "threads": 1}
        return runtime.Session.open(path, **how, **options)

    def load(self, path: Path) -> Backend:
        self.ready(path, "patch")
        return backends.load(self.backend, self.device, 1, path, precision=self.precision)


def random_pixels(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)


class BackendContract:
    """One instance for each place where backends run; see the module."""

    @pytest.mark.parametrize("strategy", ["patch", "engines"])
    def test_every_task_answers_as_numpy_computes(self, where, mixed, strategy):
        pixels = random_pixels(3)
        with where.session(mixed.path, strategy) as session:
            for task in (*session.tasks, *session.tasks[::-1]):
                session.switch(task)
                found = session.infer(pixels)
                np.testing.assert_allclose(found, mixed.logits(task, pixels), **where.tolerance)

    def test_a_batch_of_any_size_answers_as_its_frames_do(self, where, mixed):
        pixels = random_pixels(MORE_THAN_A_PROFILE, seed=1)
        with where.session(mixed.path) as session:
            for task in ("a-b", "a-c"):
                session.switch(task)
                single = np.concatenate([session.infer(each[None]) for each in pixels])
                assert single.dtype == np.float32
                for count in (1, 2, 8, MORE_THAN_A_PROFILE):
                    found = session.infer(pixels[:count])
                    assert found.shape == (count, len(mixed.tasks[task].info.classes))
                    np.testing.assert_allclose(found, single[:count], **where.tolerance)

    def test_what_a_run_returns_is_fresh(self, where, world):
        with where.session(world.path) as session:
            session.switch("a-b")
            first = session.infer(random_pixels(2))
            kept = first.copy()
            session.infer(random_pixels(2, seed=2))
            np.testing.assert_array_equal(first, kept)
            first[...] = 0
            np.testing.assert_array_equal(session.infer(random_pixels(2)), kept)

    def test_engines_bind_what_lies_in_their_backends_memory(self, where, world):
        backend, bundle = where.load(world.path), Bundle.open(world.path)
        try:
            graph = bundle.graph(bundle.manifest.encoders[0].graph)
            read = partial(bundle.weights, Form(bf16=backend.bf16))
            weights = backend.memory.weights(read(), read)
            one, two = backend.open(graph), backend.open(graph)
            assert one.inputs == {"pixels", *world.base}
            with pytest.raises(BackendError, match="the graph wants"):
                one.run({"pixels": random_pixels(1)})
            with pytest.raises(BackendError, match="the graph has no input 'stray'"):
                stray = backend.memory.tensors({"stray": np.zeros((2, 3), np.float32)})
                one.bind(stray.handles)
            for engine in (one, two):
                engine.bind(weights.handles)
            patch = weights.prepare(world.tasks["a-b"].patch)
            before = one.run({"pixels": random_pixels(1)})
            weights.apply(patch)  # both engines see it, and neither is told
            found = [engine.run({"pixels": random_pixels(1)}) for engine in (one, two)]
            np.testing.assert_array_equal(*found)
            assert not np.array_equal(found[0], before)
            weights.apply(None)
            np.testing.assert_array_equal(two.run({"pixels": random_pixels(1)}), before)
            for engine in (one, two, one, two):
                engine.close()
        finally:
            backend.memory.close()
            backend.memory.close()

    def test_a_head_behind_its_encoder_gives_what_both_give_apart(self, where, mixed):
        with where.session(mixed.path) as session:
            for count in (1, 2, 1, MORE_THAN_A_PROFILE, 1, 2):
                for task in session.tasks:
                    pixels = random_pixels(count, seed=count)
                    session.switch(task)
                    loaded, strategy = session._load(task), session._strategy
                    features = strategy.features(loaded, pixels)
                    np.testing.assert_allclose(
                        features, mixed.features(task, pixels), **where.tolerance
                    )
                    apart = strategy.logits(loaded, features)
                    np.testing.assert_allclose(session.infer(pixels), apart, **where.tolerance)

    @pytest.mark.parametrize("strategy", ["patch", "engines"])
    def test_a_look_through_the_base_leaves_no_trace(self, where, mixed, strategy):
        with_routing(mixed)
        with where.session(mixed.path, strategy) as session:
            for task in session.tasks:
                pixels = random_pixels(3, seed=3)
                session.switch(task)
                found = session.base_features(list(pixels))
                np.testing.assert_allclose(found, base_features(mixed, pixels), **where.tolerance)
                np.testing.assert_allclose(
                    session.infer(pixels), mixed.logits(task, pixels), **where.tolerance
                )
            for number, task in enumerate(mixed.tasks):
                frame = pixels_of(COLOURS[number], 1)[0]
                assert session.route(frame)[0].task == task
                assert session.predict(frame, runtime.Router()).task == task

    def test_closing_twice_is_harmless_and_nothing_runs_after_it(self, where, world):
        session = where.session(world.path)
        session.switch("a-b")
        session.close()
        session.close()
        with pytest.raises(BackendError, match="closed; open a new one"):
            session.infer(random_pixels(1))

    @pytest.mark.parametrize("device", ["tpu", "", "cuda:", "cuda:-1", "cuda:99"])
    def test_a_wrong_device_is_refused(self, where, world, device):
        where.ready(world.path, "patch")
        with pytest.raises(BackendError):
            backends.load(where.backend, device, 1, world.path)

    def test_a_graph_that_is_none_is_refused(self, where, world):
        backend = where.load(world.path)
        try:
            with pytest.raises(UdaError):
                backend.open(b"no graph")
        finally:
            backend.memory.close()

    def test_a_constant_that_fits_no_input_is_refused(self, where, world):
        backend, bundle = where.load(world.path), Bundle.open(world.path)
        graph = bundle.graph(bundle.manifest.encoders[0].graph)
        try:
            for name, shape in (("stray", (2, 3)), ("first.bias", (7,))):
                with pytest.raises(UdaError):
                    backend.open(graph, baked={name: np.zeros(shape, np.float32)})
        finally:
            backend.memory.close()

    @pytest.mark.parametrize("strategy", ["patch", "engines"])
    def test_sixty_random_switches_change_no_answer_and_no_bit_of_the_base(
        self, where, mixed, strategy
    ):
        rng, pixels, first = np.random.default_rng(3), random_pixels(1), {}
        with where.session(mixed.path, strategy) as session:
            for task in rng.choice(session.tasks, 60).tolist():
                session.switch(task)
                found = session.infer(pixels)
                np.testing.assert_array_equal(found, first.setdefault(task, found))
            assert first.keys() == set(session.tasks)
            assert session.base_sha256() == session.bundle.manifest.tensors.sha256
            np.testing.assert_array_equal(session.infer(pixels), first[session.task])

    def test_a_switch_that_is_interrupted_heals_at_the_next_call(self, where, mixed, frame):
        with where.session(mixed.path) as session:
            how = {"backend": where.backend, "device": where.device}
            check = Checker(mixed.path, frame, **how)
            for task in session.tasks:
                session.predict(frame, task)
            ways = interrupted(
                lambda: session.switch("a-b"), lambda: session.switch("a-c"), step=15
            )
            for _ in ways:
                assert session.task in ("a-b", "a-c")
                check(session, "a-c", "a-f")
            check.base(session)
