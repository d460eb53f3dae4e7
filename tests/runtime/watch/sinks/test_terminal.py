"""Lines for people: what changed, and never a flood."""

import pytest

from runtime.monitoring.drift import Drift
from runtime.watch.observation import Smoothed
from runtime.watch.sinks import terminal
from runtime.watch.sinks.terminal import Terminal
from tests.runtime.watch.observed import Program, failure, observation, status, until


@pytest.fixture(autouse=True)
def pause(monkeypatch):
    monkeypatch.setattr(terminal, "PAUSE", 0.02)
    monkeypatch.setattr(terminal, "LOOK", 0.02)


def printed(capfd, lines, err=False):
    """Return what is printed as soon as it has so many lines."""
    found = []

    def enough():
        found.extend((capfd.readouterr().err if err else capfd.readouterr().out).splitlines())
        return len(found) >= lines

    until(enough)
    return found


def test_a_line_is_printed_where_something_changes(capfd):
    sink = Terminal()
    sink.start(Program(status()))
    steady, drifting = (Drift("d-n", state, 0.1, 40, 0) for state in ("steady", "drifting"))
    for seen, line in (
        (observation(0), "gate: key 78.7%; task d-n"),
        (observation(1, best=2), "gate: mug 78.7%; task d-n"),
        (observation(2, best=2, task="d-r"), "gate: mug 78.7%; task d-r"),
        (observation(3, best=2, task="d-r", drift=steady), "gate: mug 78.7%; task d-r; steady"),
        (observation(4, best=2, drift=drifting), "gate: mug 78.7%; task d-n; drifting"),
        (observation(5, smoothed=Smoothed("cup", 0.5, 3)), "gate: cup 50.0%; task d-n"),
        (observation(6, "yard"), "yard: key 78.7%; task d-n"),
        (failure(7), "gate: error: the frame is broken"),
    ):
        for _ in range(3):
            sink.take(seen)
        assert printed(capfd, 1) == [line]
    sink.close()
    sink.close()
    assert capfd.readouterr().out == ""


def test_a_label_that_flickers_makes_a_line_a_pause_and_the_last_is_printed(capfd, monkeypatch):
    monkeypatch.setattr(terminal, "PAUSE", 1000.0)
    sink = Terminal()
    sink.start(Program())
    sink.take(observation(0, best=0))
    assert printed(capfd, 1) == ["gate: cup 78.7%; task d-n"]
    for number in range(1000):
        sink.take(observation(number, best=number % 3))
    sink.take(observation(1000, best=2))
    sink.close()
    assert capfd.readouterr().out.splitlines() == ["gate: mug 78.7%; task d-n"]


def test_states_are_printed_where_they_change_and_without_control_characters(capfd):
    program = Program(status())
    sink = Terminal(err=True)
    sink.start(program)
    for state, error in (("stalled", "no frame for 10 s"), ("reconnecting", "a\x1b[2Jb")):
        program.statuses = [status(state=state, error=error)]
        (line,) = printed(capfd, 1, err=True)
        assert line.startswith(f"gate: {state}: ") and "\x1b" not in line
    program.statuses = [status()]
    assert printed(capfd, 1, err=True) == ["gate: running"]
    sink.close()
