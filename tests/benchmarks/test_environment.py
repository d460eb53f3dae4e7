"""A hundredth of `make acceptance PART=environment`: commands as another user and on bad disks."""

import os
import signal
import sys
import tempfile
from pathlib import Path

import pytest

from benchmarks import environment
from benchmarks._surroundings import (
    Ended,
    World,
    full_disks,
    preload,
    read_only,
    strangers,
)

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="needs root of a Linux machine"
)


@pytest.fixture(scope="module")
def world():
    # pytest's own folders are closed to others, and it closes them again.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        made = World(Path(folder))
        preload(made, environment.LOADING[2:3])
        yield made


def codes(ended):
    assert {each.words: (each.fault, each.said) for each in ended if each.fault} == {}
    return [each.code for each in ended]


def test_a_stranger_gets_a_prediction_or_one_error(world):
    commands = [c for c in environment.STRANGERS if c.startswith("runtime predict")]
    assert codes(strangers(world, commands)) == [0, 1, 1, 1, 1]


def test_a_full_disk_leaves_the_bundle_whole(world):
    try:
        found = codes(full_disks(world, environment.FILLING[1:2], 3))
    except PermissionError as error:
        pytest.skip(f"{error}: this container may not mount disks")
    assert found == [1, 1, 0]


def test_where_nothing_may_be_written_a_prediction_is_made(world):
    assert codes(read_only(world, environment.READ_ONLY[:3])) == [0, 1, 1]


def test_a_fault_is_found():
    traceback = "Traceback (most recent call last):\nValueError: x"
    faults = {
        (0, "a warning"): "",
        (1, "a warning\nerror: one"): "",
        (1, "error: one\nerror: two"): "2 errors, status 1",
        (1, traceback): "traceback: ValueError: x",
        (2, "Usage: x\nError: no"): "exit status 2: Error: no",
        (-signal.SIGALRM, ""): "hung",
    }
    assert {key: Ended("x", *key, 0.0).fault for key in faults} == faults
