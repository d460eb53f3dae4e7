"""TensorRT's engines, whose calls are interrupted while they run, and while they record a run."""

import numpy as np
import pytest

from tests.runtime.cuda.test_trt_session import build, camera, opened, tensorrt
from tests.runtime.interrupts import elsewhere, interrupted

__all__ = ["build", "tensorrt"]  # fixtures
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.mark.parametrize("strategy", ["patch", "engines"])
def test_a_prediction_that_is_interrupted(mixed, build, strategy):
    build(mixed.path, baked=strategy == "engines")
    frames = camera(2)
    with opened(mixed.path, strategy=strategy) as session:
        want = {t: [session.predict(f, t).logits for f in frames] for t in session.tasks}

        def prepare() -> None:
            session.switch("a-b")
            loaded = session._load("a-f")
            if strategy == "engines":
                loaded.engine._recorded.close()  # so that the second run is recorded
            else:
                session._strategy.encoders[loaded.encoder].engine._recorded.close()

        for n in interrupted(
            prepare, lambda: [session.predict(frames[0], "a-f") for _ in range(3)], step=12
        ):
            for task in ("a-f", "a-c"):
                found = elsewhere(lambda: session.predict(frames[n % 2], task))  # noqa: B023
                assert found.task == task
                np.testing.assert_array_equal(found.logits, want[task][n % 2])
        assert session.base_sha256() == session.bundle.manifest.tensors.sha256
