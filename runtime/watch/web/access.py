"""Decide who may see the page, and whose requests may change anything.

A page of another site must not reach this one through the browser of somebody who may. Requests
that change something must come from our own page (`Origin`), all others must not come from another
site's (`Sec-Fetch-Site`), and a name that an attacker lets point to this machine (DNS rebinding) is
refused: without a token only names of this machine itself are served. With a token such a name is
harmless, because a browser sends a cookie to the name alone under which it was given.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from runtime.errors import ConfigError

LEAST = 16
"""Fewest characters of a token: more than anybody can guess."""
_DAYS = 30


class Refusal(NamedTuple):
    """Why a request is refused, with HTTP's status."""

    status: int
    message: str


class Access:
    """The rules for one page."""

    def __init__(self, token: str | None, port: int) -> None:
        """Set the rules.

        Args:
            token: Secret of those who may see the page; None if whoever reaches it may.
            port: Port of the page: cookies of one host are sent to all of its ports.
        """
        self._token = None if token is None else token.encode()
        self._cookie = f"uda-watch-{port}"

    def refuses(self, method: str, headers: Mapping[str, str]) -> Refusal | None:
        """Return why nothing is answered to a request, whatever it asks; None if it may be.

        Args:
            method: HTTP's method.
            headers: Headers, by names in lower case.
        """
        host, origin = headers.get("host", ""), headers.get("origin")
        name = _name(host)
        if name is None or (self._token is None and not is_loopback(name)):
            return Refusal(
                421, "this page is served at localhost; another name needs uda-runtime's --token"
            )
        theirs = headers.get("sec-fetch-site") not in (None, "same-origin", "none")
        asks = method in ("GET", "HEAD")
        if theirs and not (asks and headers.get("sec-fetch-mode") == "navigate"):
            return Refusal(403, "this request comes from another site")
        if origin is not None and not _same(origin, host):
            return Refusal(403, "this request comes from another site")
        if origin is None and not asks:
            return Refusal(403, "a request that changes something needs the header Origin")
        return None

    def admits(self, cookies: Mapping[str, str]) -> bool:
        """Return whether a request with these cookies comes from somebody who gave the token."""
        if self._token is None:
            return True
        found = cookies.get(self._cookie, "").encode()
        return hmac.compare_digest(found, self._proof().encode())

    def accepts(self, token: str) -> bool:
        """Return whether a token is the right one, in a time that does not depend on it."""
        digests = (
            hashlib.sha256(each).digest()
            for each in (token.encode(errors="replace"), self._token or b"")
        )
        return self._token is not None and hmac.compare_digest(*digests)

    def cookie(self) -> str:
        """Return the header `Set-Cookie` for somebody who gave the token.

        It does not hold the token, and is the same after a restart.
        """
        rules = f"Path=/; Max-Age={_DAYS * 86400}; HttpOnly; SameSite=Strict"
        return f"{self._cookie}={self._proof()}; {rules}"

    def _proof(self) -> str:
        assert self._token is not None
        return hmac.digest(self._token, b"page of uda-runtime watch", "sha256").hex()


def check_token(token: str | None, host: str, loopback: bool) -> None:
    """Check that a page is protected where others can reach it.

    Raises:
        ConfigError: It needs a token, or one that is longer.
    """
    if token is None and not loopback:
        raise ConfigError(
            f"--host {host} lets other machines see the page; give a --token of at least {LEAST} "
            "characters, or leave --host out"
        )
    if token is not None and (len(token) < LEAST or not token.isprintable()):
        raise ConfigError(
            f"--token must have at least {LEAST} printable characters, found {len(token)}; make "
            'one with: python -c "import secrets; print(secrets.token_urlsafe())"'
        )


def is_loopback(name: str) -> bool:
    """Return whether a name or address always means this machine itself."""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


def _name(host: str) -> str | None:
    """Return the name or address in a header `Host`, in lower case; None if it is not one."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return None
    if parts.netloc != host or "@" in host or not parts.hostname:
        return None
    return parts.hostname.rstrip(".")


def _same(origin: str, host: str) -> bool:
    """Return whether a header `Origin` names the host that was asked."""
    scheme, found, rest = origin.partition("://")
    return scheme in ("http", "https") and bool(found) and rest.lower() == host.lower()
