"""Features beside the logits of one pass of TensorRT's engines: the same logits, no run more."""

import numpy as np
import pytest

from tests.runtime.cuda.test_trt_graphs import BATCHES, counted
from tests.runtime.cuda.test_trt_session import build, close, opened, tensorrt
from tests.runtime.watched import own_pixels, watch

__all__ = ["build", "tensorrt"]  # fixtures


@pytest.mark.parametrize("strategy", ["patch", "engines"])
def test_features_come_with_the_logits_that_there_are_without(make_world, build, strategy):
    """More frames than the profile takes at once, too: they run in parts."""
    plain, watched = (make_world(name, mixed=True, tasks=5) for name in ("plain", "watched"))
    watch(watched)
    for each in (plain, watched):
        build(each.path, baked=strategy == "engines")
    with (
        opened(plain.path, strategy=strategy) as want,
        opened(watched.path, strategy=strategy) as found,
    ):
        for task in want.tasks:
            for count in (1, 1, 1, 19, 19, 3):
                frames = list(own_pixels(count, seed=count))
                before, after = (s.predict_batch(frames, task) for s in (want, found))
                assert before == after
                many = found.predict_many([(frame, task) for frame in frames])
                assert many == after
                features = np.stack([each.features for each in after])
                close(features, watched.features(task, np.stack(frames)))


def test_features_cost_copies_alone(world, build, driver):
    build(watch(world).path)
    frames = list(own_pixels(8))
    with opened(world.path) as session:
        session.switch("a-b")
        for count in BATCHES:
            before, copies = counted(driver), driver.counts("cuMemcpyDtoHAsync_v2")
            session.predict_batch(frames[:count])
        assert (counted(driver) - before).tolist() == [1, 0, 0, 0, 0, 0]
        assert np.subtract(driver.counts("cuMemcpyDtoHAsync_v2"), copies).tolist() == [2]
