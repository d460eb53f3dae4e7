"""The checks of benchmarks/watch.py find what is wrong."""

import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("cv2", reason="the extra [camera] is not installed")
from benchmarks._watch_check import EVERY, Check  # noqa: E402
from benchmarks._watch_soak import Choice  # noqa: E402
from benchmarks._watch_verdict import _memory, _tasks  # noqa: E402
from runtime.prediction import Prediction  # noqa: E402
from runtime.sessions.session import Session  # noqa: E402
from tests.runtime.conftest import _make_world  # noqa: E402
from tests.runtime.watch.collecting import eventually  # noqa: E402
from tests.runtime.watch.observed import Program, observation, status  # noqa: E402


def line(task, time, source="street", waited=0.0):
    return {"source": source, "frame": 0, "task": task, "time": time, "waited_ms": 1000 * waited}


def test_a_frame_has_the_task_that_was_chosen_when_its_turn_came():
    choices = [
        Choice("street", "a", 0, 0),
        Choice("camera", "a", 0, 0),
        Choice("street", "b", 10, 11),
        Choice("street", "auto", 20, 20.1),
    ]
    good = [
        *(line("a", 5), line("a", 10.5), line("b", 10.5), line("b", 15), line("x", 25)),
        *(line("a", 15, "camera"), line("b", 9, waited=3), {"source": "street", "error": "e"}),
    ]
    assert _tasks(choices, good) == ([], 4)
    bad = [line("b", 5), line("a", 15), line("b", 15, "camera"), line("a", 9, waited=3)]
    wrong, _ = _tasks(choices, [*good, *bad])
    assert wrong == [
        "street, frame 0: b for {'a'}",
        "street, frame 0: a for {'b'}",
        "camera, frame 0: b for {'a'}",
        "street, frame 0: a for {'b'}",
    ]


def test_growth_is_that_after_the_warm_up():
    found = _memory([(float(n), (1 + (n > 60)) * 10**8 + n * 10**4) for n in range(301)])
    assert found["growth"] == pytest.approx(1.6e6 / 2.01e8, rel=0.01)
    assert len(found["minutes_mb"]) == 6


def test_a_logit_that_differs_and_counts_that_do_not_add_up_are_found(tmp_path):
    world = _make_world(tmp_path / "toy.bundle")
    with Session.open(world.path, threads=1) as session:
        right = session.predict(observation().frame.image, "a-b")
    program = Program(status(captured=3 * EVERY, predicted=3 * EVERY))
    check = Check(tmp_path / "report.json", world.path)
    check.start(program)
    for number in range(3 * EVERY):
        own = right if number < 2 * EVERY else replace(right, logits=right.logits + np.float32(0.1))
        assert isinstance(own, Prediction)
        check.take(replace(observation(number), prediction=own))
    eventually(lambda: check._checked["a-b"] == 3)
    program.statuses = [status(captured=3 * EVERY + 1, predicted=3 * EVERY)]
    check.take(observation(0))
    check.close()
    wrong = json.loads((tmp_path / "report.json").read_text())["wrong"]
    assert wrong[0].startswith(f"gate, frame {3 * EVERY - 1}: '")
    assert wrong[1] == f"gate: frame 0 came after {3 * EVERY - 1}"
    assert wrong[-2].startswith("counts do not add up: ") and "predictions came, at" in wrong[-1]
