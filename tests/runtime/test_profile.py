"""Profiles by name and from files, which are untrusted."""

from __future__ import annotations

import inspect
import json

import pytest

from runtime.backends.trt.profile import PROFILES, Profile, Span, load
from runtime.errors import ConfigError, FormatError
from runtime.sessions import grouping

GOOD = {
    "name": "kiosk",
    "batch": {"min": 1, "opt": 4, "max": 16},
    "classes": {"min": 2, "opt": 31, "max": 345},
}


def test_a_file_gives_what_it_says(tmp_path):
    (tmp_path / "p.json").write_text(json.dumps(GOOD))
    found = load(str(tmp_path / "p.json"))
    assert found == Profile("kiosk", Span(1, 4, 16), Span(2, 31, 345))
    assert found.span("batch").max == 16 and found.span("classes").max == 345


@pytest.mark.parametrize("name", PROFILES)
def test_every_named_profile_takes_one_frame_and_a_task_of_two_classes(name):
    found = load(name)
    assert found.name == name and found.batch.min == 1 and found.classes.min == 2


def test_the_servers_engines_take_the_largest_batch_of_predict_many():
    most = inspect.signature(grouping.plan).parameters["most"].default
    assert load("server").batch.max >= most


def test_an_unknown_name_is_told_the_known_ones():
    with pytest.raises(ConfigError, match="unknown profile 'jetson'; available: orin, server"):
        load("jetson")
    with pytest.raises(ConfigError, match="or a JSON file"):
        load("x" * 5000)


def test_a_refused_file_is_told_what_a_good_one_looks_like(tmp_path):
    for content in ("{", "[]", json.dumps({**GOOD, "name": ""})):
        (tmp_path / "p.json").write_text(content)
        with pytest.raises(FormatError) as error:
            load(str(tmp_path / "p.json"))
        head, _, example = str(error.value).partition("; a profile is a file like ")
        assert head.startswith(f"'{tmp_path / 'p.json'}'") and json.loads(example) == GOOD


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": {"min": 1, "opt": 20, "max": 16}}, "in this order"),
        ({"batch": {"min": 0, "opt": 1, "max": 16}}, "must be 1 or more"),
        ({"batch": {"min": 2, "opt": 4, "max": 16}}, "min must be 1"),
        ({"batch": {"min": 1, "opt": 4, "max": 10**9}}, "max may be 1024"),
        ({"classes": {"min": 2, "opt": 4, "max": 10**9}}, "max may be 100000"),
        ({"batch": {"min": 1, "opt": 4}}, "'max' is missing"),
        ({"batch": {"min": 1, "opt": 4, "max": True}}, "must be a whole number"),
        ({"batch": {"min": 1, "opt": 4, "max": 8.0}}, "must be a whole number"),
        ({"batch": [1, 2, 3]}, "expected a mapping"),
        ({"name": "\x1b[2J"}, "control characters"),
        ({"tf32": True}, "unknown key 'tf32'"),
    ],
)
def test_a_file_that_asks_for_nonsense_is_refused(tmp_path, change, message):
    (tmp_path / "p.json").write_text(json.dumps(GOOD | change))
    with pytest.raises(FormatError, match=message):
        load(str(tmp_path / "p.json"))


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[" * 60_000, b"null", b"1" * (1 << 17)])
def test_a_file_that_is_no_profile_is_refused(tmp_path, content):
    (tmp_path / "p.json").write_bytes(content)
    with pytest.raises(FormatError):
        load(str(tmp_path / "p.json"))


def test_a_graph_with_axes_of_other_names_is_refused():
    with pytest.raises(FormatError, match="an axis 'height'"):
        load("orin").span("height")
