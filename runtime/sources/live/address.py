"""Show addresses without their passwords."""

from __future__ import annotations

import re

from runtime.text import printable

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_USER = re.compile(r"([a-z][a-z0-9+.-]*://)[^/?#\s\"']*@", re.IGNORECASE)
_SECRET = re.compile(
    r"((?:user-pw|password|passwd|passphrase|pwd|pass|pw|secret|token|auth|key|sig\w*)[\w-]*=)"
    r"(\"[^\"]*\"|'[^']*'|[^&\s!#;]*)",
    re.IGNORECASE,
)


def has_scheme(where: str) -> bool:
    """Return whether an address starts with a scheme, as `rtsp://` is one."""
    return _SCHEME.match(where) is not None


def redacted(where: str) -> str:
    """Return an address, or a text that quotes one, as people may see it.

    User and password of an address are `***`, and so are values of parameters, and of properties
    of a pipeline, that are called like a password or a token.
    """
    return printable(_SECRET.sub(r"\1***", _USER.sub(r"\1***@", where)))
