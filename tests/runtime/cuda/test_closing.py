"""Sessions closed while other threads use them: each gets one error, all memory is back."""

import threading
import time

import numpy as np
import pytest

from runtime.errors import BackendError, TaskError
from tests.runtime.cuda.test_trt_session import build, camera, opened, tensorrt

__all__ = ["build", "tensorrt"]  # fixtures


@pytest.mark.parametrize("pools", ["0", "1"])
@pytest.mark.parametrize(("strategy", "room"), [("patch", 5000), ("engines", 40_000)])
def test_closing_at_any_moment_ends_every_thread_and_frees_everything(
    mixed, build, driver, monkeypatch, pools, strategy, room
):
    monkeypatch.setenv("EMULATED_POOLS", pools)
    build(mixed.path, baked=strategy == "engines")
    frame, before, wrong = camera(1)[0], driver.live_bytes(), []
    with opened(mixed.path, strategy=strategy) as session:
        want = {task: session.predict(frame, task).logits for task in session.tasks}

    def use(session, number, seed):
        rng = np.random.default_rng([seed, number])
        try:
            while True:
                task, *more = map(str, rng.choice(list(want), 4))
                try:
                    if number == 0:
                        session.prefetch(*more)
                    elif number == 1:
                        session.load(task)
                    elif not np.array_equal(session.predict(frame, task).logits, want[task]):
                        wrong.append(task)
                except TaskError:  # what is in use takes all the room
                    pass
        except BackendError as error:
            if "closed" not in str(error):
                wrong.append(error)
        except BaseException as error:
            wrong.append(error)

    for seed in range(8):
        session = opened(mixed.path, strategy=strategy, max_task_bytes=room)
        threads = [threading.Thread(target=use, args=(session, n, seed)) for n in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.02 + 0.01 * seed)
        session.close()
        for thread in threads:
            thread.join()
        assert not wrong
        assert driver.live_bytes() == before
