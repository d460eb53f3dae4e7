"""Build frozen dataclasses from untrusted mappings, checked field by field."""

from __future__ import annotations

import dataclasses
import functools
import math
import reprlib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from runtime.errors import FormatError, UdaError

T = TypeVar("T")
_PLAIN = (str, int, bool)
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_BRIEF = reprlib.Repr()


def build(cls: type[T], values: object, where: str, error: type[UdaError] = FormatError) -> T:
    """Return `cls(**values)` after checking every key and type.

    Understands str, bool, int, float, `X | None`, `tuple[X, ...]`, `dict[str, X]`, `typing.Literal`
    and nested dataclasses. An int is accepted where a float is wanted; nothing else is converted.

    Args:
        cls: Dataclass to build.
        values: Mapping that a parser returned.
        where: Name of the file or field, for messages.
        error: Error class to raise.

    Raises:
        UdaError: A key is unknown or missing, a type is wrong, or `cls` refuses a value.
    """
    if not isinstance(values, Mapping):
        raise error(f"{where}: expected a mapping, found {_kind(values)}")
    fields = _fields(cls)  # type: ignore[arg-type]
    unknown = sorted(str(key) for key in values if key not in fields)
    if unknown:
        raise error(f"{where}: unknown key '{unknown[0]}'; available: {', '.join(sorted(fields))}")
    checked = {}
    for name, (hint, required) in fields.items():
        if name in values:
            value = values[name]
            # Nearly all values of a long list are plain: a manifest of 200 tasks has 2,000 such.
            plain = type(value) is hint and hint in _PLAIN
            checked[name] = value if plain else _check(hint, value, f"{where}: '{name}'", error)
        elif required:
            raise error(f"{where}: key '{name}' is missing")
    try:
        return cls(**checked)
    except ValueError as problem:
        raise error(f"{where}: {problem}") from problem


@functools.cache
def _fields(cls: type[Any]) -> dict[str, tuple[Any, bool]]:
    """Return the type of each argument of a dataclass, and whether it is required."""
    hints, missing = typing.get_type_hints(cls), dataclasses.MISSING
    return {
        f.name: (hints[f.name], f.default is missing and f.default_factory is missing)
        for f in dataclasses.fields(cls)
        if f.init
    }


def _check(hint: Any, value: object, where: str, error: type[UdaError]) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        (hint,) = [a for a in args if a is not type(None)]
        return _check(hint, value, where, error)
    if origin is typing.Literal:
        if value not in args or type(value) is not type(args[0]):
            raise error(
                f"{where} must be one of {', '.join(map(str, args))}, found {_brief(value)}"
            )
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise error(f"{where} must be a list, found {_kind(value)}")
        return tuple(_check(args[0], v, f"{where}[{i}]", error) for i, v in enumerate(value))
    if origin is dict:
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise error(f"{where} must be a mapping with text keys, found {_kind(value)}")
        return {k: _check(args[1], v, f"{where}['{k}']", error) for k, v in value.items()}
    if dataclasses.is_dataclass(hint):
        return build(typing.cast("type[Any]", hint), value, where, error)
    if hint is Any:
        return value
    if hint is float and type(value) is int and abs(value) < 2**1000:
        value = float(value)
    if type(value) is not hint:
        raise error(f"{where} must be {_WORDS.get(hint, hint.__name__)}, found {_kind(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise error(f"{where} must be finite, found {value}")
    return value


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return repr(value[:60])
    if isinstance(value, bool):
        return str(value).lower()
    return _brief(value)[:60]


def _brief(value: object) -> str:
    # Some are deeper, or longer by YAML's aliases, than a text can be made of.
    if isinstance(value, int) and value.bit_length() > 1 << 12:
        return "a number of many digits"
    return _BRIEF.repr(value)
