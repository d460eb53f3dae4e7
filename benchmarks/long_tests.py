"""Run the tests that `make test` shortens at their full length: training, and threads.

    python -m benchmarks.long_tests [--json FILE]

`make acceptance PART=long_tests` runs this. Exits with 1 if one fails.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import click

from benchmarks.switches import commit
from runtime.benchmark.latency import machine
from runtime.console import write_json

FILES = ("adapt/test_demo_claims", "export/test_stress")
_ROOT = Path(__file__).parent.parent


def run(name: str) -> dict[str, object]:
    """Run the tests of one file, and return how they ended."""
    start = time.monotonic()
    found = subprocess.run(
        [sys.executable, "-m", "pytest", f"tests/{name}.py"],
        env={**os.environ, "ACCEPTANCE": "1"},
        cwd=_ROOT,
        capture_output=True,
        text=True,
    )
    if found.returncode:
        click.echo(found.stdout + found.stderr, err=True)
    lines = found.stdout.split("\n")
    result = next((line for line in reversed(lines) if " in " in line), "no result")
    click.echo(f"{name}: {result.strip('= ')}")
    passed = found.returncode == 0
    return {"passed": passed, "result": result, "seconds": round(time.monotonic() - start, 1)}


@click.command()
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(json_file: Path | None) -> None:
    """Run every file's tests at full length."""
    tests = {name: run(name) for name in FILES}
    if json_file is not None:
        write_json(json_file, {"commit": commit(), "machine": machine(), "tests": tests})
    sys.exit(not all(test["passed"] for test in tests.values()))


if __name__ == "__main__":
    main()
