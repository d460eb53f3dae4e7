"""Recognise addresses in the network, and show any without its password."""

from __future__ import annotations

import re

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
# Up to the last @: a password may hold any letter, although it should not.
_USER = re.compile(r"([a-z][a-z0-9+.-]*:/+)[^\s\"']*@", re.IGNORECASE)
_BARE_USER = re.compile(r"(?<![^\s\"'=])[^\s\"'/:=]+:[^\s\"'/]+@")
_SECRET = re.compile(
    r"(?<![\w-])"
    r"((?:[\w-]*(?:pas|pw|secret|token|auth|cred|header)[\w-]*|(?:api)?[_-]?key|sig(?:nature)?)"
    r"\s*=\s*)"
    r"(\"(?:\\.|[^\"\\])*\"?|'[^']*'?|[^&\s!#;]+)",
    re.IGNORECASE,
)


def has_scheme(where: str) -> bool:
    """Return whether an address starts with a scheme, as `rtsp://` is one."""
    return _SCHEME.match(where) is not None


def redacted(text: str) -> str:
    """Return an address, or a text with addresses in it, as people may see it.

    User and password before an @ become `***`, and so do values of parameters, and of properties of
    a pipeline, that are called like a password or a token.
    """
    return _BARE_USER.sub("***@", _SECRET.sub(r"\1***", _USER.sub(r"\1***@", text)))
