"""Addresses of brokers: what they mean, and that nobody sees their passwords."""

import pytest

from runtime.errors import ConfigError, FormatError
from runtime.watch.sinks.mqtt_address import Address, parse


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("mqtt://box", Address("box", 1883, False, None, None, "uda")),
        ("mqtts://box/", Address("box", 8883, True, None, None, "uda")),
        ("mqtt://me:a%40b%2F@[::1]:7/a/b/", Address("::1", 7, False, "me", "a@b/", "a/b")),
        ("mqtt://me@box.lan/h%C3%B6fe", Address("box.lan", 1883, False, "me", None, "höfe")),
        ("mqtt://me:@box", Address("box", 1883, False, "me", "", "uda")),
    ],
)
def test_an_address_is_read(url, found):
    assert parse(url, environment={}) == found


@pytest.mark.parametrize(
    "url",
    [
        *("", "box", "http://box", "mqtt://", "mqtt:///topic", "mqtt://me:secret@", "mqtt://box:x"),
        *("mqtt://box:99999", "mqtt://me:secret#1@box", "mqtt://me:secret?@box", "mqtt://[::1"),
        *(
            "mqtt://box/a/+/b",
            "mqtt://box/%23",
            "mqtt://box/$SYS",
            "mqtt://box/a%0Ab",
            "mqtt://box/" + "ö" * 501,
            f"mqtt://{'a' * 70}.lan",
        ),
    ],
)
def test_other_addresses_are_refused_without_showing_a_password(url):
    with pytest.raises(ConfigError, match="--mqtt") as caught:
        parse(url)
    assert "secret" not in str(caught.value)


def test_a_password_is_never_shown():
    found = parse("mqtts://me:secret@box/shop")
    assert "secret" not in f"{found!r} {found} {found.shown}"
    assert found.shown == "mqtts://box:8883"
    assert parse("mqtt://[::1]").shown == "mqtt://[::1]:1883"


def test_a_password_comes_from_the_environment_or_a_file(tmp_path):
    variables = {"UDA_MQTT_PASSWORD": "hidden"}
    path = tmp_path / "password"
    path.write_text("wörd\nrest\n")
    assert parse("mqtt://me@box", environment=variables).password == "hidden"
    assert parse("mqtt://me:own@box", environment=variables).password == "own"
    assert parse("mqtt://box", environment=variables).password is None
    assert parse("mqtt://me@box", path, variables).password == "wörd"


def test_files_without_a_password_are_refused(tmp_path):
    path = tmp_path / "password"
    with pytest.raises(FormatError, match="cannot read"):
        parse("mqtt://me@box", path)
    for content, reason in ((b"\n", "is empty"), (b"\xff", "is not text")):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=reason):
            parse("mqtt://me@box", path)
    for url in ("mqtt://box", "mqtt://me:own@box"):
        with pytest.raises(ConfigError, match="--mqtt-password-file needs an address"):
            parse(url, path)
