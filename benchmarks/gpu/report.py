"""A pytest plugin that appends every test's result to the file `$GPU_REPORT` as it ends."""

from __future__ import annotations

import json
import os
from typing import Any


def pytest_collectreport(report: Any) -> None:
    """Write one line for a file that cannot be collected, or is left out as a whole."""
    if not report.passed:
        _write(report, seconds=0.0)


def pytest_runtest_logreport(report: Any) -> None:
    """Write one line for a test that ran, was skipped, or failed in its set-up or end."""
    if report.when == "call" or not report.passed:
        _write(report, seconds=round(report.duration, 3))


def _write(report: Any, seconds: float) -> None:
    line = {"test": report.nodeid, "result": report.outcome, "seconds": seconds}
    if report.skipped:
        line["why"] = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
    elif report.failed:
        line["why"] = str(report.longrepr)[-1000:]
    with open(os.environ["GPU_REPORT"], "a") as file:
        file.write(json.dumps(line) + "\n")
