"""A writer of bundles that is killed at any of its steps on the disk leaves a bundle."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Kill every operation at every step; the script checks what each kill left."""
    done = subprocess.run(
        [sys.executable, HERE / "killing.py", tmp_path_factory.mktemp("killed")],
        env={**os.environ, "PYTHONPATH": f"{HERE.parents[1]}{os.pathsep}{HERE}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", ["add", "replace", "remove", "rollback", "export"])
def test_a_writer_killed_at_any_step_leaves_the_old_bundle_or_the_new_one(results, name):
    result = results[name]
    assert result["old"] + result["new"] == len(result["steps"])
    assert result["old"] >= 9 and result["new"] >= 3
    assert any(what == "write" and path.endswith(".tmp") for what, path in result["steps"])
    kinds = {what for what, _ in result["steps"]}
    assert kinds >= {"open", "write", "fsync", "os.rename", "os.remove", "os.chmod"}


@pytest.mark.parametrize("name", ["add", "replace", "remove", "rollback", "export"])
def test_nothing_counts_before_it_is_on_the_disk(results, name):
    """For the power cut that a test cannot make: contents and names are synced first."""
    steps = [(what, Path(path)) for what, path in results[name]["steps"]]
    last = max(i for i, (what, path) in enumerate(steps) if path.name == "manifest.json")
    assert steps[last][0] == "os.rename"
    dirty, names = set(), set()
    for what, path in steps[:last]:
        if what == "write" and path.suffix != ".lock" != path.name:
            dirty.add(path)
        elif what == "os.rename":
            assert not any(path.name in other.name for other in dirty)
            names.add(path.parent)
        elif what == "fsync":
            dirty.discard(path)
            names.discard(path)
        elif what == "os.remove":  # of a temporary file that was renamed, to be sure, and its lock
            assert path.suffix in (".tmp", ".lock"), f"{path} goes before the new manifest counts"
    assert not dirty and not names
    assert ("fsync", steps[last][1].parent) in steps[last:]
