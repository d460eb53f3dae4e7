"""A connection to an MQTT broker that is opened again when it is lost. For one thread."""

from __future__ import annotations

import random
import secrets
import ssl
import threading
import time
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from runtime.errors import ConfigError, UdaError
from runtime.watch.sinks.mqtt_address import Address

SHORTEST, LONGEST = 1.0, 30.0
"""Seconds between two attempts to connect; they double, and a random part is left out."""
_WAIT = 5.0
"""Seconds to wait for the broker's answer."""
_KEEPALIVE = 30
"""Seconds after which a silent connection is asked whether it is still there."""


class Broker:
    """Publishes to a broker; each connection is a new client, with nothing left of the last."""

    def __init__(self, address: Address, status: str, authority: Path | None = None) -> None:
        """Prepare the connection.

        Args:
            address: Address of the broker.
            status: Topic that is `online` while the connection lasts, and `offline` after it.
            authority: File with the certificates to trust instead of the system's.

        Raises:
            ConfigError: paho-mqtt is an older one, or the certificates cannot be read.
        """
        if not hasattr(mqtt, "CallbackAPIVersion"):
            raise ConfigError(
                "--mqtt needs paho-mqtt 2, found an older one; run: pip install '.[mqtt]'"
            )
        self._address, self._status = address, status
        self._tls = _context(authority) if address.tls else None
        self._client: Any = None
        self._answer: Any = None
        self._answered = threading.Event()
        self._problem: str | None = None
        self._pause, self._next = SHORTEST, float("-inf")
        self.connections = 0
        """Number of times that the connection was made."""

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._client is not None and bool(self._client.is_connected())

    def connect(self) -> None:
        """Connect if there is no connection, and it is time to try.

        Raises:
            UdaError: There is none.
        """
        if self.connected:
            return
        if self._client is not None:
            self._drop()
            self._problem = f"the connection to {self._address.shown} is lost"
        if self._problem is not None and time.monotonic() < self._next:
            raise UdaError(self._problem)
        try:
            self._open()
            self._publish(self._status, "online", 1, True)
        except UdaError as error:
            self._drop()
            self._problem = str(error)
            self._next = time.monotonic() + self._pause * random.uniform(0.5, 1)
            self._pause = min(2 * self._pause, LONGEST)
            raise
        self._pause, self._problem = SHORTEST, None
        self._next = time.monotonic() + SHORTEST
        self.connections += 1

    def publish(self, topic: str, payload: str, *, keep: bool = False) -> None:
        """Publish text, and wait until it is sent.

        Args:
            topic: Topic.
            payload: Text.
            keep: Whether the broker keeps it for those who ask later, and acknowledges it.

        Raises:
            UdaError: There is no connection, or it is lost.
        """
        self.connect()
        self._publish(topic, payload, int(keep), keep)

    def close(self) -> None:
        """Say `offline` and disconnect. Safe to call more than once."""
        try:
            if self.connected:
                self._publish(self._status, "offline", 1, True)
        finally:
            self._drop()

    def _open(self) -> None:
        """Connect.

        Raises:
            UdaError: The broker is not there, or refuses.
        """
        shown = self._address.shown
        client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"uda-{secrets.token_hex(6)}",
            reconnect_on_failure=False,
        )
        self._client = client
        client.suppress_exceptions = True
        if self._address.user is not None:
            client.username_pw_set(self._address.user, self._address.password)
        if self._tls is not None:
            client.tls_set_context(self._tls)
        client.will_set(self._status, "offline", qos=1, retain=True)
        client.connect_timeout = _WAIT
        self._answered.clear()
        client.on_connect = self._connected
        problem = None
        try:
            client.connect(self._address.host, self._address.port, _KEEPALIVE)
        except (OSError, ValueError) as error:
            problem = _reason(error)
        if problem is not None:  # raised here, as the error above would keep paho's socket open
            raise UdaError(f"cannot reach {shown}: {problem}")
        client.loop_start()
        if not self._answered.wait(_WAIT):
            raise UdaError(f"{shown} does not answer; check that it is an MQTT broker")
        if self._answer.is_failure:
            raise UdaError(
                f"{shown} refuses the connection ({self._answer}); check user and password"
            )

    def _connected(
        self, _client: object, _data: object, _flags: object, code: Any, *_: Any
    ) -> None:
        self._answer = code
        self._answered.set()

    def _publish(self, topic: str, payload: str, quality: int, keep: bool) -> None:
        """Publish, and wait until it is sent, or acknowledged with a quality of 1.

        Raises:
            UdaError: The connection is lost.
        """
        try:
            sent = self._client.publish(topic, payload, quality, keep)
            sent.wait_for_publish(_WAIT)
            done = sent.is_published()
        except (OSError, RuntimeError, ValueError) as error:
            raise UdaError(f"cannot publish to {self._address.shown}: {error}") from error
        if not done:
            self._drop()
            raise UdaError(f"{self._address.shown} does not answer any more")

    def _drop(self) -> None:
        """Forget the client, whose thread ends."""
        client, self._client = self._client, None
        if client is not None:
            client.on_connect = None
            client.disconnect()
            client.loop_stop()


def _context(authority: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=authority)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(
            f"cannot read certificates from '{authority}': {_reason(error)}; expected a PEM file"
        ) from error


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message}); see --mqtt-ca"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
