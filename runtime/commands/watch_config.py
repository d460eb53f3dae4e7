"""Read the options of `uda-runtime watch` from a TOML file."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import click

from runtime.errors import ConfigError
from runtime.sources.live.address import redacted
from runtime.storage.files import read_bytes
from runtime.suggest import did_you_mean

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SOURCES = "sources"
"""Name of the table that has a table of settings for each source."""
_MOST = 1 << 20
"""Bytes of a file, at most."""
_OF_SOURCES = ("where", "task", "every", "queue", "smooth", "stall", "fast")
_LEFT_OUT = ("bundle", "config", "source", "help")
"""Arguments that a file cannot give."""


def read_config(context: click.Context, option: click.Parameter, path: Path | None) -> Path | None:
    """Take values for options that are not on the command line, for a click option's callback.

    Raises:
        ConfigError: A key is unknown, or a value is not possible.
        FormatError: The file cannot be read.
    """
    if path is None:
        return None
    content = _parse(path)
    sources = content.pop(SOURCES, {})
    options = {p.name: p for p in context.command.params if p.name and p.name not in _LEFT_OUT}
    values: dict[str, Any] = {}
    for key, value in content.items():
        name = key.replace("-", "_")
        dashed = [known.replace("_", "-") for known in options]
        if name not in options:
            _refuse(path, f"unknown option '{key}'", key, [*dashed, SOURCES])
        _convert(path, key, options[name], value, context)
        values[name] = value
    context.default_map = {**(context.default_map or {}), **values}
    context.meta[SOURCES] = _sources(path, sources, options, context)
    return path


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_bytes(path, _MOST).decode())
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"'{path}' is not TOML: {error}; correct the file") from error


def _sources(
    path: Path, tables: Any, options: Mapping[str, click.Parameter], context: click.Context
) -> dict[str, dict[str, Any]]:
    """Return the checked settings of sources by name."""
    found: dict[str, dict[str, Any]] = {}
    if not isinstance(tables, dict):
        raise ConfigError(f"'{path}': {SOURCES} must be tables such as [{SOURCES}.door]")
    for name, table in tables.items():
        where = f"[{SOURCES}.{redacted(name)}]"
        if not isinstance(table, dict):
            raise ConfigError(f"'{path}': {where} must be a table of settings")
        for key, value in table.items():
            if key not in _OF_SOURCES:
                _refuse(path, f"unknown setting '{key}' in {where}", key, _OF_SOURCES)
            if key == "where" and not isinstance(value, str):
                raise ConfigError(
                    f"'{path}': where in {where} must be text, found {_shown(key, value)}"
                )
            if key != "where":
                _convert(path, f"{key} in {where}", options[key], value, context)
        if "where" not in table:
            raise ConfigError(
                f"'{path}': {where} does not say where its frames come from; add where = \"...\""
            )
        found[name] = table
    return found


def _convert(
    path: Path, key: str, option: click.Parameter, value: Any, context: click.Context
) -> None:
    """Check a value as the option does.

    Raises:
        ConfigError: It is not possible.
    """
    if isinstance(option, click.Option) and option.is_flag:
        kinds: tuple[type, ...] = (bool,)
    elif isinstance(option.type, click.types.IntParamType):
        kinds = (int,)
    elif isinstance(option.type, click.types.FloatParamType):
        kinds = (int, float)
    else:
        kinds = (str,)
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        found = _shown(key, value)
        raise ConfigError(f"'{path}': {key} must be {names[kinds[-1]]}, found {found}")
    try:
        option.type_cast_value(context, value)
    except click.BadParameter as error:
        raise ConfigError(f"'{path}': {key}: {error.message}") from error


def _shown(key: str, value: Any) -> str:
    """Return a value as an error may show it: without passwords, and not a token at all."""
    return repr(redacted(f"{key}={value}").partition("=")[2][:60])


def _refuse(path: Path, what: str, key: str, known: Collection[str]) -> None:
    hint = did_you_mean(key, known) or f"; available: {', '.join(sorted(known))}"
    raise ConfigError(f"'{path}' has an {what}{hint}")
