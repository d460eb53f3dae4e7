"""Run the tests that `make test` shortens at their full length: training, and threads.

    python -m benchmarks.long_tests [--json FILE]

`make acceptance PART=long_tests` runs this. Exits with 1 if one fails.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from benchmarks.switches import commit, run_tests
from runtime.benchmark.latency import machine
from runtime.console import write_json

FILES = ("adapt/test_demo_claims", "export/test_stress")


@click.command()
@click.option("--json", "json_file", type=click.Path(path_type=Path))
def main(json_file: Path | None) -> None:
    """Run every file's tests at full length."""
    tests = {}
    for name in FILES:
        tests[name] = run_tests(f"tests/{name}.py")
        click.echo(f"{name}: {tests[name]}")
    if json_file is not None:
        write_json(json_file, {"commit": commit(), "machine": machine(), "tests": tests})
    sys.exit(not all(test["passed"] for test in tests.values()))


if __name__ == "__main__":
    main()
