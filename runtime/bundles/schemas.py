"""Convert the body of a manifest between schemas."""

from __future__ import annotations

from typing import Any

from runtime.errors import FormatError
from runtime.storage import extension


def extended(body: dict[str, Any]) -> bool:
    """Return whether an untrusted body has members of schema 3."""
    entries = [e for key in ("tasks", "former") for e in _list(body.get(key))]
    return any(
        extension.REQUIRES in part or extension.OPTIONAL in part
        for part in (body, *entries)
        if isinstance(part, dict)
    )


def from_schema_1(body: dict[str, Any]) -> dict[str, Any]:
    """Return an untrusted body of schema 1 with the members that schema 2 added."""
    if not isinstance(body.get("heads"), list):
        return body
    heads = [{"tensors": None, **h} if isinstance(h, dict) else h for h in body["heads"]]
    return {"former": [], **body, "heads": heads}


def as_schema_2(body: dict[str, Any]) -> dict[str, Any]:
    """Return the body without the members that schema 3 added.

    Raises:
        FormatError: A feature is required.
    """
    tasks = [*body["tasks"], *body["former"]]
    required = sorted({*body["requires"], *(name for task in tasks for name in task["requires"])})
    if required:
        raise FormatError(
            f"the bundle requires the feature '{required[0]}', but schema 2 has no features; "
            "leave out --schema 2"
        )
    old = {k: v for k, v in body.items() if k not in (extension.REQUIRES, extension.OPTIONAL)}
    for name in ("tasks", "former"):
        old[name] = [{k: v for k, v in t.items() if k != extension.REQUIRES} for t in body[name]]
    return old


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
