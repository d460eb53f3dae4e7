"""`uda-runtime info`: what tasks carry to tell when to trust their answers."""

import json
import re
from dataclasses import replace

import pytest
from click.testing import CliRunner

from runtime.cli import main
from runtime.monitoring.cusum import RATE
from tests.runtime.helpers import smuggle
from tests.runtime.routed import with_routing
from tests.runtime.watched import CALIBRATION, statistics_of, watched


def info(*words):
    return CliRunner().invoke(main, ["info", *map(str, words)])


@pytest.fixture
def some(world):
    """One task that carries all, one without statistics, and one that is routed by nothing."""
    whole = watched(world.tasks["a-b"], statistics_of(world, "a-b"), CALIBRATION)
    world.tasks["a-b"] = whole
    return with_routing(world, ["a-b", "a-c"])


def test_a_table_and_json_say_what_each_task_carries(some, tmp_path):
    done = info(some.path, "--json", tmp_path / "x.json")
    assert done.exit_code == 0, done.output
    assert round(1e5 * RATE) == 2
    title, _, header, _, *rows, _, wrote = done.stdout.split("\nmonitored ")[1].splitlines()
    assert title.endswith("drift thresholds are for 2 false alarms in 100,000 frames")
    assert header.split("  ")[0] == "task" and wrote == f"wrote     {tmp_path / 'x.json'}"
    threshold = statistics_of(some, "a-b").drift.threshold
    assert [row.split() for row in rows] == [
        ["a-b", "1,000", "images", f"{threshold:.1f}", "yes", "64", "sorted", "images"],
        ["a-c", "none", "none", "yes", "uncalibrated"],
        ["a-d", "none", "none", "none", "uncalibrated"],
    ]
    found = json.loads((tmp_path / "x.json").read_text())
    assert found["whitening"] is True and found["damaged"] == []
    first, second, _ = (task["monitoring"] for task in found["tasks"])
    assert first == {
        "statistics_images": 1000,
        "drift_threshold": pytest.approx(threshold),
        "routing": True,
        "calibration": "64 sorted images",
        "calibration_images": 64,
        "temperature": 2.0,
    }
    assert (second["statistics_images"], second["calibration"]) == (None, "uncalibrated")
    printed = info(some.path, "--json", "-")
    assert json.loads(printed.stdout) == found and printed.exit_code == 0


def test_a_bundle_that_carries_nothing_says_none(world):
    done = info(world.path)
    assert "\nmonitored none\n" in done.stdout and done.exit_code == 0
    found = json.loads(info(world.path, "--json", "-").stdout)
    assert found["whitening"] is False
    assert {task["monitoring"]["statistics_images"] for task in found["tasks"]} == {None}


def test_a_damaged_member_is_marked_and_the_check_fails(some):
    task = some.tasks["a-b"]
    bad = {**task.optional, "calibration": {"version": 1, "temperature": -1, "images": 64}}
    smuggle(some.path, replace(task, optional=bad))
    done = info(some.path)
    assert done.exit_code == 0
    assert re.search(r"^a-b +damaged$", done.stdout, re.M)
    (first, *_) = json.loads(info(some.path, "--json", "-").stdout)["tasks"]
    assert first["monitoring"] is None
    checked = info(some.path, "--check")
    assert checked.exit_code == 1 and "the calibration of the task is damaged" in checked.stdout
    assert info(some.path, "--check", "--json", "-").exit_code == 1
