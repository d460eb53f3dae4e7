"""What interrupts a call on a device, at any bytecode, or fails in any call of the driver."""

import numpy as np
import pytest

import runtime
from runtime.errors import BackendError
from tests.runtime.cuda.test_device_session import camera
from tests.runtime.cuda.test_device_session import cuda as cuda  # a fixture
from tests.runtime.interrupts import Checker, elsewhere, interrupted

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
STRATEGIES = ["patch", "engines"]
# Of the mixed world: patches, and tasks that bring tokens instead.
WAYS = [("a-b", "a-f"), ("a-c", "a-b"), ("a-b", "a-e")]


@pytest.fixture(params=STRATEGIES)
def opened(request, mixed, cuda):
    """A session on the device with all tasks in memory, and what it must answer."""
    how = {"device": "cuda", "strategy": request.param}
    check = Checker(mixed.path, camera(1)[0], **how)
    with runtime.Session.open(mixed.path, threads=1, **how) as session:
        for task in session.tasks:
            session.predict(check.frame, task)
        yield session, check


@pytest.mark.parametrize("way", WAYS, ids="-to-".join)
def test_a_switch_that_is_interrupted(opened, way):
    session, check = opened
    old, new = way
    for _ in interrupted(lambda: session.switch(old), lambda: session.switch(new), step=7):
        assert session.task in way
        check(session, new)
        check.base(session)


def test_a_prediction_that_is_interrupted(opened):
    session, check = opened
    frame = camera(2, seed=1)[1]

    def predict() -> None:
        session.predict(frame, "a-f")

    for _ in interrupted(lambda: session.switch("a-b"), predict, step=12):
        check(session, "a-f")


def test_a_task_that_is_brought_to_the_device_when_its_call_is_interrupted(mixed, cuda):
    check = Checker(mixed.path, camera(1)[0], device="cuda")
    with runtime.Session.open(mixed.path, threads=1, device="cuda") as free:
        bound = max(free.load("a-b"), free.load("a-f"))
    with runtime.Session.open(
        mixed.path, threads=1, device="cuda", max_task_bytes=bound
    ) as session:
        for _ in interrupted(lambda: session.switch("a-b"), lambda: session.switch("a-f"), step=30):
            check(session, "a-f", "a-b")
            assert session.task_bytes <= bound


@pytest.mark.parametrize("way", WAYS, ids="-to-".join)
def test_a_driver_that_fails_in_any_call_of_a_switch(mixed, cuda, driver, way):
    old, new = way
    check = Checker(mixed.path, camera(1)[0], device="cuda")
    with runtime.Session.open(mixed.path, threads=1, device="cuda") as session:
        for task in session.tasks:
            session.predict(check.frame, task)
        failed = 0
        for number in range(1000):
            session.switch(old)
            driver.fail_call(number)
            try:
                session.switch(new)
            except BackendError as error:
                assert "the CUDA driver failed in" in str(error)
                assert session.task == old and not session.closed
                failed += 1
            if not driver.fail_call(-1):
                break
            check(session, new, old)
            check.base(session)
        assert failed == number > 0


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_driver_that_fails_in_any_call_of_a_prediction(mixed, cuda, driver, strategy):
    check = Checker(mixed.path, camera(1)[0], device="cuda", strategy=strategy)
    with runtime.Session.open(mixed.path, threads=1, device="cuda", strategy=strategy) as session:
        for task in session.tasks:
            session.predict(check.frame, task)
        failed = 0
        for number in range(1000):
            session.switch("a-b")
            driver.fail_call(number)
            try:
                found = session.predict(check.frame, "a-f")
            except BackendError as error:
                assert "the CUDA driver failed in" in str(error)
                assert not session.closed
                failed += 1
            else:
                assert check.same(found)
            if not driver.fail_call(-1):
                break
            check(session, "a-f", "a-b")
        assert failed > 0.8 * number > 5


def test_a_driver_that_fails_in_any_call_of_a_close(mixed, cuda, driver):
    frame, want = camera(1)[0], None
    for number in range(1000):
        session = runtime.Session.open(mixed.path, threads=1, device="cuda")
        result = session.predict(frame, "a-f").logits
        np.testing.assert_array_equal(result, result if want is None else want)
        want = result
        driver.fail_call(number)
        session.close()
        done = not driver.fail_call(-1)
        elsewhere(session.close)
        assert session.closed
        if done:
            break
    assert number > 5
