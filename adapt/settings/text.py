"""Read settings from YAML files, and from `key=value` on a command line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from runtime.errors import ConfigError, FormatError, UdaError
from runtime.storage.files import read_bytes
from runtime.storage.json_text import MAX_DIGITS

_SHOWN = 200
"""Number of typed characters that a message shows."""
MAX_BYTES = 1 << 16
"""Largest settings file; the parser takes a second for 100 kB."""
MAX_VALUES = 10_000
"""Most values of a settings file, those behind aliases included."""
_UNREADABLE = (
    *(FormatError, ValueError, yaml.YAMLError),
    RecursionError,  # deep brackets
    *(AttributeError, LookupError, ArithmeticError, TypeError),  # tags: `!!timestamp x`, `!!int ""`
)
"""Errors of reading YAML."""


class _Loader(yaml.SafeLoader):
    """Safe YAML that also reads `3e-6` as a number, as YAML 1.2 does.

    A duplicate key is an error, not the last one's value. A few lines of aliases could expand to
    more values than fit into memory, so they are counted first.
    """

    def get_single_node(self) -> Any:
        """Return the document's node, whose aliases expand to a bounded number of values."""
        node = super().get_single_node()
        if node is not None and _values(node, {}) > MAX_VALUES:
            found = f"it holds more than {MAX_VALUES} values, aliases expanded"
            raise yaml.composer.ComposerError(None, None, found, node.start_mark)
        return node

    def construct_scalar(self, node: Any) -> Any:
        """Return the text of a scalar; half of a character is an error, as nothing can print it."""
        text = super().construct_scalar(node)
        text.encode()
        return text

    def construct_yaml_int(self, node: Any) -> Any:
        """Return a whole number of bounded length; parsing takes quadratic time."""
        if len(node.value) > MAX_DIGITS:
            found = (
                f"a whole number has {len(node.value)} characters, expected at most {MAX_DIGITS}"
            )
            raise yaml.constructor.ConstructorError(None, None, found, node.start_mark)
        return super().construct_yaml_int(node)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """Return a mapping whose keys differ."""
        given = [key for key, _ in node.value] if isinstance(node, yaml.MappingNode) else []
        seen: set[tuple[str, str]] = set()
        for key in given:
            name = key.tag, str(key.value)
            if isinstance(key, yaml.ScalarNode) and name in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"'{name[1][:_SHOWN]}' stands there twice", key.start_mark
                )
            seen.add(name)
        return super().construct_mapping(node, deep)


def _values(node: Any, known: dict[int, int]) -> int:
    """Return the number of values of a node; those of an alias count each time it is used."""
    if id(node) not in known:
        known[id(node)] = MAX_VALUES + 1  # if it holds itself
        inner: list[Any] = [] if isinstance(node, yaml.ScalarNode) else node.value
        parts = (part for each in inner for part in (each if isinstance(each, tuple) else (each,)))
        known[id(node)] = 1 + sum(_values(part, known) for part in parts)
    return known[id(node)]


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def read(path: Path) -> dict[str, Any]:
    """Return the values in a settings file.

    Raises:
        ConfigError: The file cannot be read, or is not a mapping.
    """
    try:
        values = yaml.load(read_bytes(path, MAX_BYTES).decode(), _Loader)  # noqa: S506
    except _UNREADABLE as error:
        raise ConfigError(f"cannot read the settings '{path}': {_line(error)}") from error
    if values is None:  # empty, or comments alone
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"'{path}' must hold one 'key: value' per line; correct the file")
    return values


def sections(values: dict[str, Any], name: str, path: Path) -> dict[str, dict[str, Any]]:
    """Take a section of a settings file out of `values` and return it; empty if there is none.

    Raises:
        ConfigError: The section is not a mapping of mappings.
    """
    found = values.pop(name, {})
    if not isinstance(found, dict) or not all(isinstance(v, dict) for v in found.values()):
        raise ConfigError(
            f"'{name}' in '{path}' must hold one 'name: {{key: value}}' per line; correct the file"
        )
    return {str(key): value for key, value in found.items()}


def override(text: str) -> tuple[str, Any]:
    """Return key and value of `key=value`, the value a YAML scalar.

    Raises:
        ConfigError: The text is not of that form.
    """
    shown = text[:_SHOWN]
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ConfigError(f"'--set {shown!a}' is not UTF-8 text; type it again")
    key, equals, value = text.partition("=")
    key, value = key.strip(), value.strip()
    if not equals or not key or not value:
        raise ConfigError(
            f"'--set {shown}' is not of the form key=value, for example --set lr=3e-6"
        )
    loader = _Loader("")
    try:
        if value[0] in "'\"":
            return key, yaml.load(value, _Loader)  # noqa: S506
        # A scalar and nothing else: prompts and paths may hold ': ', '{' or '['.
        tag = loader.resolve(yaml.ScalarNode, value, (True, False))  # type: ignore[no-untyped-call]
        return key, loader.construct_object(yaml.ScalarNode(tag, value))
    except _UNREADABLE as error:
        raise ConfigError(
            f"the value in '--set {shown}' is not readable: {_line(error)}"
        ) from error
    finally:
        loader.dispose()


def _line(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "brackets are nested too deeply; correct the file"
    plain = isinstance(error, (UdaError, ValueError, yaml.YAMLError))
    # Others describe the loader, not the file: 'NoneType' object has no attribute 'groupdict'.
    text = str(error) if plain else f"a value does not fit its tag ({type(error).__name__})"
    return " ".join(text.split())[: 2 * _SHOWN]
