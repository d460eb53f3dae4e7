"""Features beside the logits of one pass of ONNX Runtime on a device: the same, no run more."""

import numpy as np
import pytest

import runtime
from tests.runtime.cuda.ort_stand_in import calls
from tests.runtime.cuda.test_device_session import cuda
from tests.runtime.cuda.test_ort_graphs import BATCHES
from tests.runtime.watched import own_pixels, watch

__all__ = ["cuda"]  # a fixture


@pytest.mark.parametrize("integrated", ["0", "1"])
def test_features_come_with_the_logits_that_there_are_without(
    make_world, cuda, monkeypatch, integrated
):
    monkeypatch.setenv("EMULATED_INTEGRATED", integrated)
    plain, watched = (make_world(name, mixed=True, tasks=5) for name in ("plain", "watched"))
    watch(watched)
    with (
        runtime.Session.open(plain.path, device="cuda", threads=1) as want,
        runtime.Session.open(watched.path, device="cuda", threads=1) as found,
    ):
        for task in want.tasks:
            for count in (1, 1, 1, 8, 8, 3):
                frames = list(own_pixels(count, seed=count))
                before, after = (s.predict_batch(frames, task) for s in (want, found))
                assert before == after
                many = found.predict_many([(frame, task) for frame in frames])
                assert many == after
                features = np.stack([each.features for each in after])
                expected = watched.features(task, np.stack(frames))
                np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-2)


def test_features_cost_copies_alone(world, cuda, driver):
    watch(world)
    frames = list(own_pixels(8))
    with runtime.Session.open(world.path, device="cuda", threads=1) as session:
        session.switch("a-b")
        for count in BATCHES:
            before, copies = dict(calls), driver.counts("cuMemcpyDtoHAsync_v2")
            session.predict_batch(frames[:count])
    changed = {name: calls[name] - before.get(name, 0) for name in calls}
    assert {name: count for name, count in changed.items() if count} == {"replayed": 2}
    assert np.subtract(driver.counts("cuMemcpyDtoHAsync_v2"), copies).tolist() == [2]
