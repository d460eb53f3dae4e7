import functools
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from runtime.errors import ConfigError, FormatError
from runtime.storage.fields import build

DEEP = functools.reduce(lambda value, _: [value], range(5000), 1)


@dataclass(frozen=True)
class Inner:
    x: int


@dataclass(frozen=True)
class Outer:
    name: str
    rate: float = 0.5
    flag: bool = False
    mode: Literal["a", "b"] = "a"
    sizes: tuple[int, ...] = ()
    table: dict[str, float] = field(default_factory=dict)
    inner: Inner | None = None
    free: Any = None

    def __post_init__(self):
        if self.rate > 1:
            raise ValueError("rate is above 1")


def test_good_values_are_taken_and_an_int_serves_as_a_float():
    values = {"name": "n", "rate": 1, "sizes": [1, 2], "table": {"k": 2}, "inner": {"x": 3}}
    assert build(Outer, values, "here") == Outer(
        "n", 1.0, sizes=(1, 2), table={"k": 2.0}, inner=Inner(3)
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "n", "rat": 1}, r"here: unknown key 'rat'; available: flag, free"),
        ({}, "'name' is missing"),
        ({"name": 1}, "'name' must be text, found 1"),
        ({"name": "n", "rate": "x"}, "'rate' must be a number"),
        ({"name": "n", "rate": True}, "'rate' must be a number"),
        ({"name": "n", "rate": float("nan")}, "must be finite"),
        ({"name": "n", "rate": 2.0}, "rate is above 1"),
        ({"name": "n", "flag": 1}, "'flag' must be true or false"),
        ({"name": "n", "mode": "c"}, "must be one of a, b"),
        ({"name": "n", "mode": DEEP}, "must be one of a, b, found .{,60}$"),
        ({"name": "n", "mode": 10**5000}, "must be one of a, b, found a number of many digits"),
        ({"name": "n", "sizes": 3}, "'sizes' must be a list"),
        ({"name": "n", "sizes": [1, "2"]}, r"'sizes'\[1\] must be a whole number"),
        ({"name": "n", "table": {"k": "v"}}, r"'table'\['k'\] must be a number"),
        ({"name": "n", "inner": {"y": 1}}, "'inner': unknown key 'y'"),
        ({"name": "n", "inner": 5}, "expected a mapping"),
        ([], r"expected a mapping, found \[\]"),
        (None, "expected a mapping, found nothing"),
    ],
)
def test_bad_values_are_named(values, message):
    with pytest.raises(FormatError, match=message):
        build(Outer, values, "here")


def test_the_caller_chooses_the_error():
    with pytest.raises(ConfigError):
        build(Outer, {}, "here", ConfigError)
