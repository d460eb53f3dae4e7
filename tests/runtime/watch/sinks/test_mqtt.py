"""Publish to a real mosquitto, also one that goes away, refuses, or wants TLS."""

import json
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runtime.errors import ConfigError
from tests.runtime.watch.observed import Program, failure, observation, status, until

client = pytest.importorskip("paho.mqtt.client", reason="paho-mqtt is not installed")
from runtime.watch.sinks import backlog, mqtt, mqtt_broker, trouble  # noqa: E402
from runtime.watch.sinks.mqtt import Mqtt  # noqa: E402

MOSQUITTO = shutil.which("mosquitto", path="/usr/sbin:/usr/bin:/usr/local/sbin:/opt/homebrew/sbin")
pytestmark = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr(backlog, "SECOND", 0.05)
    monkeypatch.setattr(mqtt_broker, "SHORTEST", 0.05)
    monkeypatch.setattr(mqtt_broker, "LONGEST", 0.1)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Server:
    """A broker that can be killed and started again on its port."""

    def __init__(self, folder: Path, *lines: str) -> None:
        self.port = free_port()
        self._config = folder / "mosquitto.conf"
        options = lines or ("allow_anonymous true",)
        # It would give up root for a user who may not read our files.
        user = f"user {'root' if sys.platform == 'linux' else 'nobody'}"
        listener = f"listener {self.port} 127.0.0.1"
        self._config.write_text("\n".join([user, listener, *options, "persistence false", ""]))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [MOSQUITTO, "-c", str(self._config)]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        until(self._listens)

    def _listens(self) -> bool:
        assert self._process.poll() is None
        with socket.socket() as found:
            return found.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def server(tmp_path):
    found = Server(tmp_path)
    found.start()
    yield found
    found.kill()


class Listener:
    """Receives what is published; its own connection is made anew after the broker was killed."""

    def __init__(self, port: int) -> None:
        self.messages: list[tuple[str, str, bool]] = []
        self._client = client.Client(client.CallbackAPIVersion.VERSION2)
        self._client.on_message = self._take
        self._ready = False
        self._client.on_subscribe = self._subscribed
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._client.subscribe("#", qos=1)
        until(lambda: self._ready)

    def _subscribed(self, *_) -> None:
        self._ready = True

    def _take(self, _client, _data, message) -> None:
        self.messages.append((message.topic, message.payload.decode(), bool(message.retain)))

    def of(self, topic: str) -> list[str]:
        return [payload for name, payload, _ in list(self.messages) if name == topic]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def started(server, *statuses, path="", **options):
    sink = Mqtt(f"mqtt://127.0.0.1:{server.port}{path}", **options)
    program = Program(*statuses)
    sink.start(program)
    return sink, program


def test_predictions_states_and_the_end_are_published(server):
    listener = Listener(server.port)
    sink, program = started(server, status(), status("yard", state="connecting", task=None))
    seen = [observation(number) for number in range(50)]
    for each in (*seen, failure(50)):
        sink.take(each)
    until(lambda: len(listener.of("uda/gate/prediction")) == 51)
    published = list(map(json.loads, listener.of("uda/gate/prediction")))
    assert published[:50] == [json.loads(json.dumps(each.to_dict())) for each in seen]
    assert published[50]["error"] == "the frame is broken"
    program.statuses = [status(state="stalled", error="no frame for 10 s"), program.statuses[1]]
    until(lambda: len(listener.of("uda/gate/state")) == 2)
    before, after = map(json.loads, listener.of("uda/gate/state"))
    wanted = {"state": "running", "choice": "auto", "task": "d-n", "drift": None, "error": None}
    assert before == wanted
    assert after == {**wanted, "state": "stalled", "error": "no frame for 10 s"}
    assert json.loads(listener.of("uda/yard/state")[0])["state"] == "connecting"
    assert listener.of("uda/status") == ["online"]
    late = Listener(server.port)  # who comes later is told what holds
    until(lambda: len(late.messages) == 3)
    assert {name for name, _, retained in late.messages if retained} == {
        *("uda/status", "uda/gate/state", "uda/yard/state"),
    }
    sink.close()
    sink.close()
    until(lambda: listener.of("uda/status") == ["online", "offline"])
    until(lambda: json.loads(listener.of("uda/gate/state")[-1]) == {"state": "offline"})
    assert sink.lost == 0
    listener.close()
    late.close()


def test_a_program_that_is_killed_is_offline(server):
    listener = Listener(server.port)
    code = (
        "import sys, time\n"
        "from runtime.watch.sinks.mqtt import Mqtt\n"
        "from tests.runtime.watch.observed import Program, status\n"
        "sink = Mqtt(sys.argv[1])\n"
        "sink.start(Program(status()))\n"
        "time.sleep(60)\n"
    )
    url = f"mqtt://127.0.0.1:{server.port}/shop/1"
    child = subprocess.Popen([sys.executable, "-c", code, url])
    until(lambda: listener.of("shop/1/gate/state"))
    child.kill()
    child.wait()
    until(lambda: listener.of("shop/1/status") == ["online", "offline"])
    listener.close()


def test_a_broker_that_goes_away_is_waited_for(server, capfd, monkeypatch):
    monkeypatch.setattr(mqtt, "ROOM", 20)
    sink, _ = started(server, status())
    sink.take(observation(0))
    until(lambda: sink._broker.connections == 1)
    until(lambda: not sink._backlog._items)
    server.kill()
    until(lambda: sink._trouble.failing)
    before = time.monotonic()
    for number in range(1, 101):
        sink.take(observation(number))
    assert time.monotonic() - before < 5  # it waits for nothing
    assert 79 <= sink.lost <= 80  # one may be on its way
    server.start()
    listener = Listener(server.port)
    until(lambda: listener.of("uda/gate/prediction") or not sink._trouble.failing)
    until(lambda: not sink._backlog._items)
    sink.take(observation(101))
    until(lambda: any('"frame": 101,' in each for each in listener.of("uda/gate/prediction")))
    numbers = [json.loads(each)["frame"] for each in listener.of("uda/gate/prediction")]
    assert numbers == sorted(set(numbers))
    # A new broker knows nothing: what holds is said again.
    until(lambda: listener.of("uda/gate/state") and listener.of("uda/status"))
    sink.close()
    said = capfd.readouterr().err.splitlines()
    assert len(said) <= 2 and "lost so far" in said[0]
    assert f"127.0.0.1:{server.port}" in said[0]
    listener.close()


def test_a_broker_that_is_not_there_at_the_start_comes_later(tmp_path, capfd):
    server = Server(tmp_path)
    sink, _ = started(server, status())
    sink.take(observation(3))
    until(lambda: sink._trouble.failing)
    server.start()
    until(lambda: sink._broker.connections == 1 and not sink._backlog._items)
    sink.close()
    said = capfd.readouterr().err.splitlines()
    assert f"cannot reach mqtt://127.0.0.1:{server.port}: Connection refused" in said[0]
    assert len(said) == 2 and sink.lost == 0
    server.kill()


@pytest.fixture(scope="module")
def passwords(tmp_path_factory):
    path = tmp_path_factory.mktemp("passwords") / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(path), "me", "right"], check=True)
    return path


def test_a_wrong_password_is_said_and_not_shown(tmp_path, passwords, capfd, monkeypatch):
    server = Server(tmp_path, "allow_anonymous false", f"password_file {passwords}")
    server.start()
    for user in ("", "me:wrong@", "you:right@"):
        sink = Mqtt(f"mqtt://{user}127.0.0.1:{server.port}")
        sink.start(Program(status()))
        sink.take(observation())
        until(lambda each=sink: each._trouble.failing)
        sink.close()
        said = capfd.readouterr().err
        assert "refuses the connection (Not authorized); check user and password" in said
        assert "wrong" not in said and sink.lost == 1
    monkeypatch.setenv("UDA_MQTT_PASSWORD", "right")
    sink = Mqtt(f"mqtt://me@127.0.0.1:{server.port}")
    sink.start(Program(status()))
    until(lambda: sink._broker.connections == 1)
    sink.close()
    server.kill()


# paho closes the socket of a failed handshake only by losing sight of it.
@pytest.mark.filterwarnings("ignore:.*SSLSocket:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_tls_checks_the_certificate(tmp_path, capfd):
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *(
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=box",
                "-addext",
                "subjectAltName=DNS:localhost",
            ),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    server = Server(tmp_path, "allow_anonymous true", f"certfile {certificate}", f"keyfile {key}")
    server.start()
    for host, authority, reason in (
        ("localhost", None, "its certificate is not trusted (self-signed certificate)"),
        ("127.0.0.1", certificate, "IP address mismatch, certificate is not valid"),
    ):
        sink = Mqtt(f"mqtts://{host}:{server.port}", authority=authority)
        sink.start(Program(status()))
        until(lambda each=sink: each._trouble.failing)
        sink.close()
        assert reason in capfd.readouterr().err
    sink = Mqtt(f"mqtts://localhost:{server.port}", authority=certificate)
    sink.start(Program(status()))
    until(lambda: sink._broker.connections == 1)
    sink.close()
    with pytest.raises(ConfigError, match="cannot read certificates from"):
        Mqtt("mqtts://localhost", authority=key)
    server.kill()


def test_a_prediction_a_while_and_one_for_each_change(server):
    listener = Listener(server.port)
    sink, _ = started(server, every=1000)
    given = [
        (0, 1, "d-n"),
        (1, 1, "d-n"),
        (2, 2, "d-n"),
        (3, 2, "d-n"),
        (4, 2, "d-r"),
        (5, 1, "d-n"),
    ]
    for number, best, task in given:
        sink.take(observation(number, best=best, task=task))
    sink.take(observation(6, "yard"))
    sink.take(failure(7))
    sink.take(failure(8))
    sink.close()
    until(lambda: listener.of("uda/status")[-1:] == ["offline"])
    numbers = [json.loads(each)["frame"] for each in listener.of("uda/gate/prediction")]
    assert numbers == [0, 2, 4, 5, 7] and len(listener.of("uda/yard/prediction")) == 1
    listener.close()


def test_a_server_that_is_no_broker_makes_nobody_wait(capfd, monkeypatch):
    monkeypatch.setattr(mqtt_broker, "_WAIT", 0.2)
    monkeypatch.setattr(trouble, "MINUTE", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sink = Mqtt(f"mqtt://127.0.0.1:{silent.getsockname()[1]}")
        sink.start(Program(status()))
        until(lambda: sink._trouble.failing)
        sink.take(observation())
        sink.close()
    assert "does not answer; check that it is an MQTT broker" in capfd.readouterr().err


def test_numbers_out_of_range_are_refused():
    for every in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="--mqtt-every must be at least 0 seconds"):
            Mqtt("mqtt://box", every=every)
