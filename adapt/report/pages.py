"""Render a report's template, and write it as one file that needs no other.

Values are escaped as they enter a page, and characters that are not printable are shown as escape
sequences, since names of files and classes come from anywhere. A page's content security policy
forbids scripts and network access.
"""

from __future__ import annotations

import datetime
import functools
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from runtime.storage.writing import write_bytes
from runtime.text import printable


def render(template: str, **values: Any) -> str:
    """Return a page.

    Args:
        template: Name of a file in `adapt/report/templates`.
        values: Values that the template uses.
    """
    return _environment().get_template(template).render(values)


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("adapt.report"),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = "{:,}".format
    return environment


def save(path: Path, page: str) -> None:
    """Write a page, whole or not at all.

    Raises:
        StorageError: The file cannot be written.
    """
    write_bytes(path, page.encode())


def common() -> dict[str, str]:
    """Return the values that every page needs."""
    return {"version": version("uda-edge"), "date": f"{datetime.date.today():%d %B %Y}"}


def _shown(value: Any) -> Any:
    """Return a value of a template as it is shown; `Markup` is the output of our own macros."""
    return value if isinstance(value, Markup) else printable(value)
