"""Who may see the page, and whose requests may change anything."""

import re

import pytest

from runtime.errors import ConfigError
from runtime.watch.web.access import Access, check_token, is_loopback

TOKEN = "correct horse battery"
OPEN, CLOSED = Access(None, 8080), Access(TOKEN, 8080)


def status(access, method="GET", **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    refusal = access.refuses(method, {"host": "localhost:8080"} | headers)
    return 200 if refusal is None else refusal.status


@pytest.mark.parametrize(
    "host", ["localhost:8080", "localhost", "127.0.0.1:9", "[::1]:8080", "LOCALHOST", "localhost."]
)
def test_this_machine_is_served_also_through_a_tunnel(host):
    assert status(OPEN, host=host) == status(CLOSED, host=host) == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "192.168.1.5:8080", "localhost.evil.example", ""]
)
def test_a_name_that_may_be_rebound_needs_a_token(host):
    assert status(OPEN, host=host) == 421
    assert status(CLOSED, host=host) == (200 if host else 421)


@pytest.mark.parametrize("host", ["a@localhost", "localhost/x", "localhost:x", "[::1", "a b:c:d"])
def test_what_is_not_a_host_is_refused(host):
    assert status(OPEN, host=host) == 421


def test_only_our_own_page_may_change_anything():
    assert status(OPEN, "POST", origin="http://localhost:8080") == 200
    for origin in (
        *("http://evil.example", "http://localhost:3000", "null", "", "localhost:8080"),
        *("http://localhost", "ftp://localhost:8080", "http://localhost:8080.evil.example"),
    ):
        assert status(OPEN, "POST", origin=origin) == 403, origin
    assert status(OPEN, "POST") == 403


def test_other_sites_do_not_even_start_a_stream():
    for site in ("cross-site", "same-site"):
        assert status(OPEN, sec_fetch_site=site, sec_fetch_mode="no-cors") == 403
        assert status(OPEN, sec_fetch_site=site, sec_fetch_mode="navigate") == 200, "a link"
        origin = "http://localhost:8080"
        assert status(OPEN, "POST", sec_fetch_site=site, origin=origin) == 403
    assert status(OPEN, sec_fetch_site="same-origin") == status(OPEN, sec_fetch_site="none") == 200
    assert status(OPEN, origin="http://localhost:3000") == 403


def test_the_cookie_of_the_right_token_alone_admits():
    assert OPEN.admits({}) and not CLOSED.admits({}) and not OPEN.accepts("")
    assert CLOSED.accepts(TOKEN)
    for wrong in ("", TOKEN[:-1], TOKEN + " ", TOKEN.upper(), "\ud800", "é" * 20):
        assert not CLOSED.accepts(wrong)
    name, value, rules = re.fullmatch(r"([\w-]+)=(\w+); (.*)", CLOSED.cookie()).groups()
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(rules.split("; "))
    assert TOKEN not in CLOSED.cookie()
    assert CLOSED.admits({name: value}) and Access(TOKEN, 8080).admits({name: value})
    assert not CLOSED.admits({name: value[:-1]}) and not CLOSED.admits({name: "é"})
    assert not Access(TOKEN + "!", 8080).admits({name: value})


def test_a_page_for_other_machines_needs_a_long_token():
    check_token(None, "127.0.0.1", loopback=True)
    check_token(TOKEN, "0.0.0.0", loopback=False)
    with pytest.raises(ConfigError, match="lets other machines see the page; give a --token"):
        check_token(None, "0.0.0.0", loopback=False)
    for token in ("", "short", "x" * 15, "x" * 15 + "\n", "x" * 15 + "\x1b"):
        with pytest.raises(ConfigError, match=r"at least 16 printable characters, found \d"):
            check_token(token, "127.0.0.1", loopback=True)
    loopback = ("127.0.0.1", "127.9.9.9", "::1", "localhost")
    assert [is_loopback(host) for host in loopback] == [True] * 4
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.1.5", "camera", "")))
