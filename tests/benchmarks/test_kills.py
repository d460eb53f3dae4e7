"""A hundredth of the kills of `make acceptance PART=kills`."""

import json
import subprocess
import sys
from pathlib import Path

COMMANDS = ("build", "resumed train", "data check")


def test_after_a_kill_nothing_is_lost_and_nothing_left_over_after_the_next_run(tmp_path):
    found = tmp_path / "kills.json"
    only = [word for name in COMMANDS for word in ("--only", name)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.kills", "--kills", "6", *only, "--json", found],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(found.read_text())["commands"]
    assert rows.keys() == set(COMMANDS)
    for row in rows.values():
        assert row["kills"] >= 1 and row["steps"] >= 40
        assert row["lost"] == row["left_over"] == 0 and row["notes"] == []
