"""Parse the address of an MQTT broker, and find its password without a command line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from runtime.errors import ConfigError
from runtime.storage.files import read_bytes

VARIABLE = "UDA_MQTT_PASSWORD"
"""Environment variable with the password."""
PREFIX = "uda"
"""Begin of all topics where the address names none."""
_PORTS = {"mqtt": 1883, "mqtts": 8883}
_MAX_PASSWORD = 65535
"""Bytes that the protocol allows."""
_MAX_PREFIX = 1000
"""Bytes of the begin of all topics: the protocol allows 65535 of a topic, and brokers less."""


@dataclass(frozen=True)
class Address:
    """Where predictions are published."""

    host: str
    port: int
    tls: bool
    user: str | None
    password: str | None = field(repr=False)
    prefix: str
    """Begin of all topics, without a slash at its end."""

    @property
    def shown(self) -> str:
        """The address for people, without user and password."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"mqtt{'s' if self.tls else ''}://{host}:{self.port}"


def parse(
    url: str, password_file: Path | None = None, environment: Mapping[str, str] = os.environ
) -> Address:
    """Return the address that a URL names.

    Args:
        url: `mqtt://[USER[:PASSWORD]@]HOST[:PORT][/TOPIC/PREFIX]`; `mqtts` for TLS.
        password_file: File whose first line is the password.
        environment: Variables, of which `UDA_MQTT_PASSWORD` may be the password.

    Raises:
        ConfigError: The URL is of another form. The message does not repeat it, as it may hold a
            password.
        FormatError: The file cannot be read.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        (host or "").encode("idna")  # as the name's look-up does
    except ValueError as error:  # UnicodeError is one
        raise _malformed("its host or port is invalid") from error
    if parts.scheme not in _PORTS or not host:
        raise _malformed("it has no host" if parts.scheme in _PORTS else "it begins otherwise")
    if parts.query or parts.fragment:
        raise _malformed("it has a '?' or '#'; write %3F or %23 in a password")
    prefix = unquote(parts.path).strip("/") or PREFIX
    if set("+#") & set(prefix) or prefix.startswith("$") or not prefix.isprintable():
        raise ConfigError(
            f"the topics of --mqtt cannot begin with '{prefix}'; choose letters, digits and '/'"
        )
    if len(prefix.encode(errors="replace")) > _MAX_PREFIX:
        raise ConfigError(
            f"the topics of --mqtt cannot begin with '{prefix[:60]}...', which is longer than "
            f"{_MAX_PREFIX} bytes; choose a shorter begin"
        )
    user = None if parts.username is None else unquote(parts.username)
    password = None if parts.password is None else unquote(parts.password)
    if password_file is not None:
        if user is None or password is not None:
            raise ConfigError(
                "--mqtt-password-file needs an address with a user and no password, such as "
                "mqtt://USER@HOST"
            )
        password = _first_line(password_file)
    elif user is not None and password is None:
        password = environment.get(VARIABLE)
    return Address(
        host, port or _PORTS[parts.scheme], parts.scheme == "mqtts", user, password, prefix
    )


def _first_line(path: Path) -> str:
    try:
        text = read_bytes(path, _MAX_PASSWORD).decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"'{path}' is not text in UTF-8; write the password into it") from error
    if not text.strip():
        raise ConfigError(f"'{path}' is empty; write the password into it")
    return text.splitlines()[0]


def _malformed(problem: str) -> ConfigError:
    return ConfigError(
        f"the address of --mqtt is malformed: {problem}; expected "
        "mqtt://USER@HOST:1883/TOPIC/PREFIX, or mqtts:// for TLS"
    )
