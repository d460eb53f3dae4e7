"""Figures for Prometheus, asked for over HTTP and read by its own parser."""

import contextlib
import dataclasses
import math
import socket
import threading
import urllib.error
import urllib.request

import pytest

from runtime.errors import ConfigError
from runtime.monitoring.drift import Drift
from runtime.watch.status import SourceStatus
from tests.runtime.watch.observed import Program, failure, observation, status, until

parser = pytest.importorskip("prometheus_client.parser", reason="prometheus-client is missing")
from runtime.watch.sinks import metrics_server  # noqa: E402
from runtime.watch.sinks.metrics import Metrics  # noqa: E402


@pytest.fixture
def program():
    counts = {"captured": 20, "predicted": 9, "failed": 1, "skipped": 5, "dropped": 3, "waiting": 2}
    drifts = {
        "d-n": Drift("d-n", "drifting", 0.75, 100, 2),
        "d-r": Drift("d-r", "steady", 0.0, 50, 1),
    }
    gate = status(**counts, switches=4, reconnects=6, drifts=drifts, harvested={"trusted": 8})
    return Program(gate, status("yard", state="connecting", task=None))


@pytest.fixture
def sink(program):
    found = Metrics("0")
    found.start(program)
    yield found
    found.close()


def read(port, path="/metrics"):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as reply:
        return reply.read().decode()


def samples(sink):
    """Return the values by name and labels, as Prometheus reads them."""
    found = {}
    for family in parser.text_string_to_metric_families(read(sink.port)):
        assert family.documentation and family.type != "unknown"
        for sample in family.samples:
            key = sample.name, *sorted(sample.labels.items())
            assert key not in found
            found[key] = sample.value
    return found


def test_what_sources_have_done_is_read(sink):
    found = samples(sink)
    gate = ("source", "gate")
    for name, value in {
        "uda_frames_captured_total": 20,
        "uda_frames_predicted_total": 9,
        "uda_frames_failed_total": 1,
        "uda_frames_skipped_total": 5,
        "uda_frames_dropped_total": 3,
        "uda_frames_waiting": 2,
        "uda_task_switches_total": 4,
        "uda_reconnects_total": 6,
        "uda_drift_level_ratio": 0.75,
        "uda_drifting": 1,
        "uda_drift_alarms_total": 3,
    }.items():
        assert found[name, gate] == value, name
    assert found["uda_task_info", gate, ("task", "d-n")] == 1
    assert found["uda_harvested_images", ("part", "trusted"), gate] == 8
    states = {key[2][1]: value for key, value in found.items() if key[0] == "uda_source_state"}
    assert set(states) == {"connecting", "running", "stalled", "reconnecting", "ended"}
    yard = ("source", "yard")
    assert found["uda_source_state", yard, ("state", "connecting")] == 1
    assert found["uda_source_state", yard, ("state", "running")] == 0
    assert not any(key[0] == "uda_task_info" and yard in key for key in found)


def test_latencies_are_counted_in_seconds(sink):
    for number in range(3):
        sink.take(dataclasses.replace(observation(number), milliseconds=15.0, waited=1.5))
    sink.take(failure(3))
    found, gate = samples(sink), ("source", "gate")
    assert found["uda_latency_seconds_count", gate] == 3
    assert found["uda_latency_seconds_sum", gate] == pytest.approx(0.045)
    assert found["uda_latency_seconds_bucket", ("le", "0.01"), gate] == 0
    assert found["uda_latency_seconds_bucket", ("le", "0.02"), gate] == 3
    assert found["uda_queue_seconds_sum", gate] == pytest.approx(0.0045)
    assert found["uda_frames_unknown_total", gate] == 0
    assert math.isnan(found["uda_novelty_ratio", gate])  # the task has no statistics


def test_a_task_that_changes_leaves_no_series_behind(sink, program):
    before = len(samples(sink))
    for number in range(50):
        task = f"d-{number}"
        drifts = {f"d-{n}": Drift(f"d-{n}", "steady", 0.0, 1, 0) for n in range(number + 1)}
        program.statuses = [
            status(task=task, drifts=drifts, harvested={"trusted": 8}),
            status("yard"),
        ]
        sink.take(observation(number, task=task))
    found = samples(sink)
    tasks = [key for key in found if key[0] == "uda_task_info"]
    assert sorted(tasks) == [
        ("uda_task_info", ("source", "gate"), ("task", "d-49")),
        ("uda_task_info", ("source", "yard"), ("task", "d-n")),
    ]
    for number in range(50, 100):
        sink.take(observation(number, task=f"d-{number}"))
    assert len(samples(sink)) == len(found) and len(found) - before < 60


def test_every_count_of_a_source_is_a_metric(sink):
    text = read(sink.port)
    left_out = {"name", "where", "choice", "error", "p50", "p99"}
    words = {"state": "uda_source_state", "task": "uda_task_info", "drifts": "uda_drift"}
    for field in dataclasses.fields(SourceStatus):
        if field.name not in left_out:
            assert words.get(field.name, field.name) in text, field.name


def test_two_sinks_have_registries_of_their_own(program):
    first, second = Metrics("0"), Metrics("127.0.0.1:0")
    for each in (first, second):
        each.start(program)
    first.take(observation())
    assert samples(first)["uda_latency_seconds_count", ("source", "gate")] == 1
    assert ("uda_latency_seconds_count", ("source", "gate")) not in samples(second)
    first.close()
    second.close()


def test_the_port_is_free_after_the_end_and_an_error_where_it_is_taken(program):
    first = Metrics("0")
    first.start(program)
    port = first.port
    second = Metrics(str(port))
    with pytest.raises(ConfigError, match=f"'127.0.0.1' port {port}: Address already in use"):
        second.start(program)
    second.close()
    first.close()
    first.close()
    with pytest.raises(urllib.error.URLError):
        read(port)
    second.start(program)
    assert samples(second)
    second.close()


def test_many_slow_clients_cost_a_few_threads(sink):
    before = threading.active_count()
    with contextlib.ExitStack() as stack:
        for _ in range(4 * metrics_server.CONNECTIONS):
            slow = socket.create_connection(("127.0.0.1", sink.port), 30)
            stack.enter_context(slow)
            slow.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
        assert samples(sink)
        until(lambda: threading.active_count() - before <= metrics_server.CONNECTIONS, 5)
        assert samples(sink)


def test_clients_that_are_silent_or_gone_hold_nobody_up(sink, capfd):
    silent = [socket.create_connection(("127.0.0.1", sink.port)) for _ in range(20)]
    silent[0].sendall(b"\0\xff\n\n")
    silent[1].sendall(b"GET /metrics HTTP/1.1\r\n")
    gone = socket.create_connection(("127.0.0.1", sink.port))
    gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    gone.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
    gone.close()
    assert samples(sink)
    sink.close()
    for each in silent:
        each.close()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("9101", ("127.0.0.1", 9101)),
        (":9101", ("127.0.0.1", 9101)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("[::1]:9101", ("::1", 9101)),
        ("box.lan:9101", ("box.lan", 9101)),
    ],
)
def test_an_address_is_read(where, found):
    assert metrics_server.parse(where) == found


@pytest.mark.parametrize(
    "where", ["", "box", "box:", "-1", "70000", "1e3", "9101:box", "٣", "a:b:1"]
)
def test_other_addresses_are_refused(where):
    with pytest.raises(ConfigError, match="--metrics must be"):
        Metrics(where)


@pytest.mark.parametrize("host", ["203.0.113.7", "no.such.host.invalid", "a" * 70])
def test_an_address_of_another_machine_is_an_error(program, host):
    sink = Metrics(f"{host}:0")
    with pytest.raises(ConfigError, match="--metrics cannot listen on"):
        sink.start(program)
    sink.close()
